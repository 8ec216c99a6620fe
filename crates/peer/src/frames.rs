//! Frames of the two streams: messages one after the other, and appends that leave out what the stream already said.
//!
//! `message`: `u64be length, Message`, repeated. `msgapp`: a type byte, then nothing (link heartbeat), an append that continues the
//! last one (entries and commit only), or a whole message, as for an append with a context.
//!
//! Invariants
//! - Writer and reader of a `msgapp` stream hold the same state (term and index of the last append) after every frame.
//! - A frame's claimed length takes no memory: the buffer grows by what arrives.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/rafthttp/{msgappv2_codec,message}.go`.

use api::raftpb;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use types::{Index, MemberId, Message, MessageKind, Term};

use crate::codec::{self, CodecError};

/// The longest message, as in etcd.
pub(crate) const MESSAGE_BYTES_MAX: usize = 512 << 20;

const APPEND_HEARTBEAT: u8 = 0;
const APPEND_ENTRIES: u8 = 1;
const APPEND_MESSAGE: u8 = 2;

/// A message of type heartbeat from nobody to nobody, with its length.
const MESSAGE_HEARTBEAT: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 2, 0x08, 0x08];

const U64: usize = 8;

/// The two streams that lead from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Append,
    Message,
}

impl StreamKind {
    pub(crate) const ALL: [StreamKind; 2] = [StreamKind::Append, StreamKind::Message];

    /// Its name in the path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            StreamKind::Append => "msgapp",
            StreamKind::Message => "message",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<StreamKind> {
        StreamKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of unknown type {0}")]
    Type(u8),
    #[error("frame of {0} bytes or entries")]
    TooLong(u64),
    #[error(transparent)]
    Message(#[from] CodecError),
}

/// The last append of a stream: its term, and the index of its last entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    term: Term,
    index: Index,
}

impl Position {
    fn after(message: &Message) -> Position {
        let index = message.entries.last().map_or(message.index, |entry| entry.index);
        Position { term: message.term, index }
    }
}

/// Writes frames of one stream.
#[derive(Debug)]
pub(crate) struct Encoder {
    kind: StreamKind,
    position: Position,
}

impl Encoder {
    pub(crate) fn new(kind: StreamKind) -> Encoder {
        Encoder { kind, position: Position::default() }
    }

    pub(crate) fn message(&mut self, message: &Message, buffer: &mut BytesMut) {
        if self.kind == StreamKind::Append {
            if message.index == self.position.index
                && message.log_term == self.position.term
                && message.term == self.position.term
                && message.context.is_empty()
            {
                return self.entries(message, buffer);
            }
            buffer.put_u8(APPEND_MESSAGE);
            self.position = Position::after(message);
        }
        let length_at = buffer.len();
        buffer.put_u64(0);
        codec::encode(message, buffer);
        let len = (buffer.len() - length_at - U64) as u64;
        buffer[length_at..length_at + U64].copy_from_slice(&len.to_be_bytes());
    }

    fn entries(&mut self, message: &Message, buffer: &mut BytesMut) {
        buffer.put_u8(APPEND_ENTRIES);
        buffer.put_u64(message.entries.len() as u64);
        for entry in &message.entries {
            let wire = codec::entry_to_wire(entry);
            let len = wire.encoded_len();
            buffer.reserve(U64 + len);
            buffer.put_u64(len as u64);
            wire.encode(buffer).expect("a buffer grows as needed");
        }
        buffer.put_u64(message.commit.0);
        self.position.index.0 += message.entries.len() as u64;
    }

    pub(crate) fn heartbeat(&self, buffer: &mut BytesMut) {
        match self.kind {
            StreamKind::Append => buffer.put_u8(APPEND_HEARTBEAT),
            StreamKind::Message => buffer.put_slice(MESSAGE_HEARTBEAT),
        }
    }
}

/// Reads frames of one stream.
#[derive(Debug)]
pub(crate) struct Decoder {
    kind: StreamKind,
    position: Position,
    /// The ends of rebuilt appends.
    from: MemberId,
    to: MemberId,
    /// How far an append in parts has been looked through: bytes, and entries to come.
    scanned: Option<(usize, u64)>,
}

impl Decoder {
    pub(crate) fn new(kind: StreamKind, from: MemberId, to: MemberId) -> Decoder {
        Decoder { kind, position: Position::default(), from, to, scanned: None }
    }

    /// Takes every whole frame off the front of `buffer` and appends its message to `messages`.
    ///
    /// # Errors
    /// What is wrong with the first bad frame; nothing after it can be read.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut, messages: &mut Vec<Message>) -> Result<(), FrameError> {
        while !buffer.is_empty() {
            let whole = match (self.kind, buffer[0]) {
                (StreamKind::Message, _) => self.whole_message(buffer, 0, messages)?,
                (StreamKind::Append, APPEND_HEARTBEAT) => {
                    buffer.advance(1);
                    true
                }
                (StreamKind::Append, APPEND_ENTRIES) => self.whole_entries(buffer, messages)?,
                (StreamKind::Append, APPEND_MESSAGE) => self.whole_message(buffer, 1, messages)?,
                (StreamKind::Append, other) => return Err(FrameError::Type(other)),
            };
            if !whole {
                break;
            }
        }
        Ok(())
    }

    fn whole_message(
        &mut self,
        buffer: &mut BytesMut,
        start: usize,
        messages: &mut Vec<Message>,
    ) -> Result<bool, FrameError> {
        let Some(len) = length_at(buffer, start)? else {
            return Ok(false);
        };
        let body = start + U64;
        if buffer.len() < body + len {
            return Ok(false);
        }
        let frame = buffer.split_to(body + len).freeze();
        let bytes = frame.slice(body..);
        if self.kind == StreamKind::Message && is_link_heartbeat(&bytes) {
            return Ok(true);
        }
        let message = codec::decode(&bytes)?;
        if self.kind == StreamKind::Append {
            if message.kind != MessageKind::Append {
                return Err(CodecError::Kind(message.kind as i32).into());
            }
            self.position = Position::after(&message);
        }
        messages.push(message);
        Ok(true)
    }

    fn whole_entries(&mut self, buffer: &mut BytesMut, messages: &mut Vec<Message>) -> Result<bool, FrameError> {
        let (mut at, mut left) = match self.scanned {
            Some(scanned) => scanned,
            None => match number_at(buffer, 1) {
                None => return Ok(false),
                Some(count) if count > codec::ENTRIES_MAX as u64 => return Err(FrameError::TooLong(count)),
                Some(count) => (1 + U64, count),
            },
        };
        while left > 0 {
            let Some(len) = length_at(buffer, at)? else {
                break;
            };
            if at + U64 + len > MESSAGE_BYTES_MAX {
                return Err(FrameError::TooLong((at + len) as u64));
            }
            if buffer.len() < at + U64 + len {
                break;
            }
            at += U64 + len;
            left -= 1;
        }
        if left > 0 || buffer.len() < at + U64 {
            self.scanned = Some((at, left));
            return Ok(false);
        }
        self.scanned = None;
        let frame = buffer.split_to(at + U64).freeze();
        messages.push(self.rebuild(&frame)?);
        Ok(true)
    }

    /// The append that a whole frame of entries stands for.
    fn rebuild(&mut self, frame: &Bytes) -> Result<Message, FrameError> {
        let mut rest = frame.slice(1..);
        let count = rest.get_u64();
        let mut entries = Vec::with_capacity(usize::try_from(count).expect("counts are bounded"));
        for _ in 0..count {
            let len = usize::try_from(rest.get_u64()).expect("lengths are bounded");
            entries.push(codec::decode_entry(rest.split_to(len))?);
        }
        let message = Message {
            term: self.position.term,
            log_term: self.position.term,
            index: self.position.index,
            entries,
            commit: Index(rest.get_u64()),
            ..Message::new(MessageKind::Append, self.from, self.to)
        };
        self.position.index.0 = self.position.index.0.wrapping_add(count);
        Ok(message)
    }
}

fn number_at(buffer: &[u8], at: usize) -> Option<u64> {
    let bytes = buffer.get(at..at + U64)?;
    Some(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
}

fn length_at(buffer: &[u8], at: usize) -> Result<Option<usize>, FrameError> {
    match number_at(buffer, at) {
        None => Ok(None),
        Some(len) if len > MESSAGE_BYTES_MAX as u64 => Err(FrameError::TooLong(len)),
        Some(len) => Ok(Some(usize::try_from(len).expect("lengths are bounded"))),
    }
}

/// Releases of etcd write it in 2, 20 or 30 bytes, its type first: most other messages need no second look.
fn is_link_heartbeat(bytes: &Bytes) -> bool {
    bytes.len() <= 40
        && bytes.starts_with(&[0x08, MessageKind::Heartbeat as u8])
        && raftpb::Message::decode(bytes.clone()).is_ok_and(|message| {
            message.r#type == MessageKind::Heartbeat as i32 && message.from == 0 && message.to == 0
        })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use types::{EntryKind, LogEntry};

    use super::*;
    use crate::codec::tests::{any_message, hex};

    const FROM: MemberId = MemberId(1);
    const TO: MemberId = MemberId(2);

    fn entry(term: u64, index: u64, data: &'static [u8]) -> LogEntry {
        LogEntry { term: Term(term), index: Index(index), kind: EntryKind::Normal, data: Bytes::from_static(data) }
    }

    fn append(term: u64, log_term: u64, index: u64, entries: Vec<LogEntry>, commit: u64) -> Message {
        Message {
            term: Term(term),
            log_term: Term(log_term),
            index: Index(index),
            entries,
            commit: Index(commit),
            ..Message::new(MessageKind::Append, FROM, TO)
        }
    }

    fn frame(encoder: &mut Encoder, message: &Message) -> Bytes {
        let mut buffer = BytesMut::new();
        encoder.message(message, &mut buffer);
        buffer.freeze()
    }

    #[test]
    fn appends_that_continue_leave_out_what_was_said() {
        let mut encoder = Encoder::new(StreamKind::Append);
        let full = frame(&mut encoder, &append(2, 1, 12, vec![entry(2, 13, b"")], 12));
        assert_eq!(full[..9], hex("02 0000000000000014")[..]);
        let commit_only = frame(&mut encoder, &append(2, 2, 13, vec![], 13));
        assert_eq!(commit_only, hex("01 0000000000000000 000000000000000d"));
        let one = frame(&mut encoder, &append(2, 2, 13, vec![entry(2, 14, b"x")], 14));
        assert_eq!(one, hex("01 0000000000000001 0000000000000007 1002 180e 220178 000000000000000e"));
        let with_context = Message { context: Bytes::from_static(b"c"), ..append(2, 2, 14, vec![], 14) };
        assert_eq!(frame(&mut encoder, &with_context)[0], APPEND_MESSAGE);
        // Its term differs from the entry's before it.
        assert_eq!(frame(&mut encoder, &append(3, 2, 14, vec![], 14))[0], APPEND_MESSAGE);
    }

    /// One put on a running etcd 3.5.30.
    #[test]
    fn frames_of_etcd_are_read() {
        let mut decoder = Decoder::new(StreamKind::Append, FROM, TO);
        let mut buffer = BytesMut::new();
        Encoder::new(StreamKind::Append).message(&append(2, 1, 12, vec![entry(2, 13, b"")], 12), &mut buffer);
        buffer.extend_from_slice(&hex("01 0000000000000000 000000000000000d 00"));
        buffer
            .extend_from_slice(&hex("01 0000000000000001 0000000000000020 0800 1002 180e 2218 2208 0a027331 12027731
             a2060b 088fa8b391bdbfe8f5dd01 000000000000000e"));
        let mut messages = Vec::new();
        decoder.read(&mut buffer, &mut messages).unwrap();
        assert!(buffer.is_empty());
        assert_eq!(messages[1], append(2, 2, 13, vec![], 13));
        let put = &messages[2];
        assert_eq!((put.index, put.log_term, put.commit), (Index(13), Term(2), Index(14)));
        assert_eq!((put.entries.len(), put.entries[0].index), (1, Index(14)));
    }

    #[test]
    fn link_heartbeats_of_every_release_are_no_messages() {
        let frames = [
            "0000000000000002 0808",
            "0000000000000014 0808 1000 1800 2000 2800 3000 4000 5000 5800 6800",
            "000000000000001e 0808 1000 1800 2000 2800 3000 4000 4a0a12080a02280010001800 5000 5800",
        ];
        let mut buffer = BytesMut::new();
        for frame in frames {
            buffer.extend_from_slice(&hex(frame));
        }
        Encoder::new(StreamKind::Message).heartbeat(&mut buffer);
        let mut messages = Vec::new();
        Decoder::new(StreamKind::Message, FROM, TO).read(&mut buffer, &mut messages).unwrap();
        assert_eq!((messages, buffer.len()), (vec![], 0));
    }

    #[test]
    fn claims_of_length_are_bounded_and_cost_nothing() {
        let refused = |kind, text: &str| {
            let mut buffer = BytesMut::from(&hex(text)[..]);
            Decoder::new(kind, FROM, TO).read(&mut buffer, &mut Vec::new()).unwrap_err()
        };
        assert_eq!(refused(StreamKind::Message, "ffffffffffffffff"), FrameError::TooLong(u64::MAX));
        assert_eq!(refused(StreamKind::Message, "0000000020000001"), FrameError::TooLong((512 << 20) + 1));
        assert_eq!(refused(StreamKind::Append, "02 7fffffffffffffff"), FrameError::TooLong(i64::MAX as u64));
        assert_eq!(refused(StreamKind::Append, "01 ffffffffffffffff"), FrameError::TooLong(u64::MAX));
        assert_eq!(refused(StreamKind::Append, "01 0000000000000001 ffffffffffffffff"), FrameError::TooLong(u64::MAX));
        assert_eq!(refused(StreamKind::Append, "03"), FrameError::Type(3));
        // A vote has no place among appends.
        assert_eq!(refused(StreamKind::Append, "02 0000000000000002 0805"), FrameError::Message(CodecError::Kind(5)));
        let mut buffer = BytesMut::from(&hex("0000000020000000 08")[..]);
        Decoder::new(StreamKind::Message, FROM, TO).read(&mut buffer, &mut Vec::new()).unwrap();
        assert!(buffer.capacity() < 1000);
    }

    /// A log that grows, is overtaken by other leaders, and is sent again from earlier on.
    fn appends() -> impl Strategy<Value = Vec<Message>> {
        vec((0..4u64, 0..3u64, 0..4usize, 0..3u64), 1..40).prop_map(|steps| {
            let (mut term, mut index) = (1, 5);
            let mut messages = Vec::new();
            for (jump, back, count, newer) in steps {
                let log_term = term;
                term += u64::from(newer == 2);
                if jump == 0 {
                    index -= back.min(index);
                }
                let entries = (1..=count as u64).map(|n| entry(term, index + n, b"data")).collect();
                let context = Bytes::from_static(if jump == 1 { b"context" } else { b"" });
                messages.push(Message { context, ..append(term, log_term, index, entries, index) });
                index += count as u64;
            }
            messages
        })
    }

    proptest! {
        #[test]
        fn appends_come_out_as_they_went_in_however_they_are_cut(messages in appends(), cuts in vec(1..60usize, 1..20)) {
            let mut encoder = Encoder::new(StreamKind::Append);
            let mut stream = BytesMut::new();
            for message in &messages {
                encoder.message(message, &mut stream);
                encoder.heartbeat(&mut stream);
            }
            prop_assert_eq!(read_in_pieces(StreamKind::Append, &stream, &cuts), messages);
        }

        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(messages in vec(any_message(), 0..10), cuts in vec(1..60usize, 1..20)) {
            let mut encoder = Encoder::new(StreamKind::Message);
            let mut stream = BytesMut::new();
            for message in &messages {
                encoder.message(message, &mut stream);
                encoder.heartbeat(&mut stream);
            }
            prop_assert_eq!(read_in_pieces(StreamKind::Message, &stream, &cuts), messages);
        }

        #[test]
        fn no_bytes_bring_a_decoder_down(bytes in vec(prop_oneof![0..3u8, any::<u8>()], 0..300)) {
            for kind in StreamKind::ALL {
                drop(Decoder::new(kind, FROM, TO).read(&mut BytesMut::from(&bytes[..]), &mut Vec::new()));
            }
        }
    }

    fn read_in_pieces(kind: StreamKind, mut stream: &[u8], cuts: &[usize]) -> Vec<Message> {
        let mut decoder = Decoder::new(kind, FROM, TO);
        let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (piece, rest) = stream.split_at((*cut).min(stream.len()));
            buffer.extend_from_slice(piece);
            decoder.read(&mut buffer, &mut messages).unwrap();
            stream = rest;
            if stream.is_empty() {
                break;
            }
        }
        assert!(buffer.is_empty());
        messages
    }
}
