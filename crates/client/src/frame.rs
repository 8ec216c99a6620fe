//! Length-prefixed gRPC messages: a compression byte, a 32-bit big-endian length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::Status;

const PREFIX_LEN: usize = 5;

/// `message` as it goes into a request body, uncompressed.
pub fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX_LEN + len);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(len).expect("requests are below 4 GiB"));
    message.encode_raw(&mut framed);
    framed.freeze()
}

/// Cuts a body, which arrives in pieces, into messages. A message that came in one piece is not copied.
#[derive(Debug)]
pub(crate) struct Frames {
    pending: Bytes,
    pieces: BytesMut,
    message_bytes_max: usize,
}

impl Frames {
    pub(crate) fn new(message_bytes_max: usize) -> Frames {
        Frames { pending: Bytes::new(), pieces: BytesMut::new(), message_bytes_max }
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if self.pending.is_empty() && self.pieces.is_empty() {
            self.pending = data;
            return;
        }
        if !self.pending.is_empty() {
            self.pieces.extend_from_slice(&std::mem::take(&mut self.pending));
        }
        self.pieces.extend_from_slice(&data);
    }

    /// The next whole message, if all of it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let held: &[u8] = if self.pending.is_empty() { &self.pieces } else { &self.pending };
        let Some(prefix) = held.get(..PREFIX_LEN) else { return Ok(None) };
        if prefix[0] != 0 {
            return Err(Status::transport("compressed message that was not asked for"));
        }
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if len > self.message_bytes_max {
            return Err(Status::transport(format_args!("a message of {len} bytes is too large")));
        }
        if held.len() < PREFIX_LEN + len {
            return Ok(None);
        }
        let message = if self.pending.is_empty() {
            self.pieces.advance(PREFIX_LEN);
            self.pieces.split_to(len).freeze()
        } else {
            self.pending.advance(PREFIX_LEN);
            self.pending.split_to(len)
        };
        Ok(Some(message))
    }

    /// Whether the body ended between two messages.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.pieces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_however_the_body_is_cut() {
        let body = b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x03cde";
        for cut in 0..=body.len() {
            let mut frames = Frames::new(3);
            let mut messages = Vec::new();
            for piece in [&body[..cut], &body[cut..]] {
                frames.push(Bytes::from_static(piece));
                while let Some(message) = frames.next().expect("well-formed") {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [&b"ab"[..], b"", b"cde"], "cut at {cut}");
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_before_it_has_arrived() {
        let mut frames = Frames::new(3);
        frames.push(Bytes::from_static(b"\0\0\0\0\x04"));
        assert!(frames.next().is_err());
    }

    #[test]
    fn frame_writes_the_prefix() {
        assert_eq!(frame(&Bytes::from_static(b"ab")).as_ref(), b"\0\0\0\0\x04\x0a\x02ab");
    }
}
