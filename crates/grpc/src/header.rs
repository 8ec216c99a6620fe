//! Response headers, and answers framed behind them.
//!
//! An answer leaves as one piece of memory where it is short: gRPC's prefix, the header field with the member's ids
//! encoded once and for all, and the body as the machine made it.

use std::ops::Deref;

use api::errors::Code;
use bytes::{BufMut, Bytes, BytesMut};
use machine::{Body, RangeBody, Reply};
use prost::Message;
use types::{ClusterId, MemberId, Term, number_len, put_number};

use crate::rpc::{Answer, MessageTail};
use crate::status::Status;

const PREFIX_LEN: usize = 5;

/// Longer answers are made piece by piece, as the client takes them.
const WHOLE_BYTES_MAX: usize = 64 << 10;

/// The longest message a client is sent, as in grpc-go.
const MESSAGE_BYTES_MAX: u64 = i32::MAX as u64;

const HEADER: u8 = 1 << 3 | 2;
const CLUSTER_ID: u8 = 1 << 3;
const MEMBER_ID: u8 = 2 << 3;
const REVISION: u8 = 3 << 3;
const RAFT_TERM: u8 = 4 << 3;

/// Writes the headers of one member's responses.
#[derive(Clone, Debug)]
pub(crate) struct HeaderWriter {
    ids: Vec<u8>,
}

impl HeaderWriter {
    pub(crate) fn new(cluster: ClusterId, member: MemberId) -> HeaderWriter {
        let mut ids = Vec::new();
        put_number(&mut ids, CLUSTER_ID, cluster.0);
        put_number(&mut ids, MEMBER_ID, member.0);
        HeaderWriter { ids }
    }

    /// A reply as it is sent: prefix, header, body.
    ///
    /// # Errors
    /// It is longer than a gRPC message may be, or a stored value cannot be read.
    pub(crate) fn answer(&self, reply: Reply, term: Term) -> Result<Answer<ReplyTail>, Status> {
        let header = self.field(reply.revision, term);
        let len = header.len() as u64 + reply.body.encoded_len();
        if len > MESSAGE_BYTES_MAX {
            let text = format!("grpc: trying to send message larger than max ({len} vs. {MESSAGE_BYTES_MAX})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        let is_long = len > WHOLE_BYTES_MAX as u64;
        let mut out = framed(len as usize, if is_long { header.len() } else { len as usize });
        out.extend_from_slice(&header);
        match reply.body {
            Body::Encoded(body) if is_long => return Ok(Answer::Long(out.freeze(), ReplyTail::Bytes(body))),
            Body::Rows(rows) if is_long => return Ok(Answer::Long(out.freeze(), ReplyTail::Rows(rows))),
            Body::Encoded(body) => out.extend_from_slice(&body),
            Body::Rows(mut rows) => while encode_rows(&mut rows, &mut out, WHOLE_BYTES_MAX)? {},
        }
        Ok(Answer::Whole(out.freeze()))
    }

    /// A message that has a header in field 1 and leaves it empty, as it is sent.
    pub(crate) fn message(&self, revision: i64, term: Term, message: &impl Message) -> Bytes {
        let header = self.field(revision, term);
        let len = header.len() + message.encoded_len();
        let mut out = framed(len, len);
        out.extend_from_slice(&header);
        message.encode_raw(&mut out);
        out.freeze()
    }

    /// The header field with its tag and length.
    pub(crate) fn field(&self, revision: i64, term: Term) -> HeaderField {
        let numbers = [(REVISION, revision as u64), (RAFT_TERM, term.0)];
        let len: usize = self.ids.len() + numbers.iter().map(|&(_, number)| number_len(number)).sum::<usize>();
        let mut field = HeaderField { bytes: [0; HEADER_FIELD_BYTES_MAX], len: 0 };
        field.push(HEADER);
        field.push(len as u8);
        field.bytes[field.len..][..self.ids.len()].copy_from_slice(&self.ids);
        field.len += self.ids.len();
        for (tag, number) in numbers {
            field.push_number(tag, number);
        }
        field
    }
}

/// Tag and length, and four numbers with their tags.
const HEADER_FIELD_BYTES_MAX: usize = 2 + 4 * 11;

/// An encoded header with its tag and length, kept off the heap.
#[derive(Debug)]
pub(crate) struct HeaderField {
    bytes: [u8; HEADER_FIELD_BYTES_MAX],
    len: usize,
}

impl HeaderField {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn push_number(&mut self, tag: u8, number: u64) {
        let mut free = &mut self.bytes[self.len..];
        put_number(&mut free, tag, number);
        self.len = HEADER_FIELD_BYTES_MAX - free.len();
    }
}

impl Deref for HeaderField {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A message without a header, as it is sent.
pub(crate) fn bare(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = framed(len, len);
    message.encode_raw(&mut out);
    out.freeze()
}

/// An empty buffer but for the prefix of a message of `len` bytes, with room for `room` more.
pub(crate) fn framed(len: usize, room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(PREFIX_LEN + room);
    put_prefix(&mut out, len);
    out
}

/// Appends the prefix of a message of `len` bytes.
pub(crate) fn put_prefix(out: &mut BytesMut, len: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(len).expect("checked against the longest message"));
}

/// Says that the message whose prefix `framed` begins with has `len` bytes.
pub(crate) fn set_len(framed: &mut [u8], len: usize) {
    let len = u32::try_from(len).expect("checked against the longest message");
    framed[1..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
}

/// What is left of a long answer.
#[derive(Debug)]
pub(crate) enum ReplyTail {
    Bytes(Bytes),
    Rows(RangeBody),
}

impl MessageTail for ReplyTail {
    fn encode_next(&mut self, out: &mut BytesMut, bytes_max: usize) -> Result<bool, Status> {
        match self {
            ReplyTail::Rows(rows) => encode_rows(rows, out, bytes_max),
            ReplyTail::Bytes(bytes) => {
                out.extend_from_slice(&bytes.split_to(bytes_max.min(bytes.len())));
                Ok(!bytes.is_empty())
            }
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            ReplyTail::Rows(rows) => rows.held_bytes(),
            ReplyTail::Bytes(bytes) => bytes.len(),
        }
    }
}

fn encode_rows(rows: &mut RangeBody, out: &mut BytesMut, bytes_max: usize) -> Result<bool, Status> {
    Ok(rows.encode_next(out, bytes_max).map_err(server::Error::from)?)
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::{LeaseKeepAliveResponse, PutResponse, ResponseHeader};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_is_the_message_of_the_api(cluster: u64, member: u64, revision: i64, term: u64) {
            let header = ResponseHeader { cluster_id: cluster, member_id: member, revision, raft_term: term };
            let expected = PutResponse { header: Some(header), prev_kv: None }.encode_to_vec();
            let writer = HeaderWriter::new(ClusterId(cluster), MemberId(member));
            prop_assert_eq!(&*writer.field(revision, Term(term)), expected);
        }

        #[test]
        fn an_answer_is_the_whole_message_however_long(body in prop::collection::vec(any::<u8>(), 0..10), long: bool) {
            let body = Bytes::from(if long { body.repeat(20_000) } else { body });
            let writer = HeaderWriter::new(ClusterId(1), MemberId(2));
            let reply = Reply { revision: 3, body: Body::Encoded(body.clone()) };
            let mut sent = BytesMut::new();
            match writer.answer(reply, Term(4)).unwrap() {
                Answer::Whole(message) => sent.extend_from_slice(&message),
                Answer::Long(head, mut tail) => {
                    sent.extend_from_slice(&head);
                    while tail.encode_next(&mut sent, 1000).unwrap() {}
                }
            }
            let message = [&*writer.field(3, Term(4)), &body].concat();
            prop_assert_eq!(&sent[..5], [&[0][..], &(message.len() as u32).to_be_bytes()].concat());
            prop_assert_eq!(&sent[5..], message);
        }
    }

    #[test]
    fn a_message_follows_its_header() {
        let writer = HeaderWriter::new(ClusterId(1), MemberId(2));
        let sent = writer.message(3, Term(4), &LeaseKeepAliveResponse { header: None, id: 5, ttl: 6 });
        let read = LeaseKeepAliveResponse::decode(sent.slice(5..)).unwrap();
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        assert_eq!(read, LeaseKeepAliveResponse { header: Some(header), id: 5, ttl: 6 });
        assert_eq!(bare(&PutResponse::default()), Bytes::from_static(b"\0\0\0\0\0"));
    }
}
