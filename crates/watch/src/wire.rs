//! Pieces of encoded protobuf: short runs built on the stack, and records passed on without copying.

use types::{Record, put_number, put_varint};

/// A piece of a message.
pub(crate) enum Part<'a> {
    Bytes(&'a [u8]),
    /// Bytes that live on in the record, for whoever would rather share than copy them.
    Record(&'a Record),
}

impl Part<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Part::Bytes(bytes) => bytes,
            Part::Record(record) => record.as_bytes(),
        }
    }
}

/// The longest run built at once is a response's own fields: a header of four numbers (2 + 4 * 11) and six fields more.
const HEAD_BYTES_MAX: usize = 112;

/// A short run of tags and numbers, on the stack.
pub(crate) struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    len: usize,
}

impl Default for Head {
    fn default() -> Head {
        Head { bytes: [0; HEAD_BYTES_MAX], len: 0 }
    }
}

impl Head {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    pub(crate) fn varint(&mut self, number: u64) {
        self.append(|free| put_varint(free, number));
    }

    /// A number field; nothing if it is zero.
    pub(crate) fn number(&mut self, tag: u8, number: u64) {
        self.append(|free| put_number(free, tag, number));
    }

    fn append(&mut self, write: impl FnOnce(&mut &mut [u8])) {
        let mut free = &mut self.bytes[self.len..];
        write(&mut free);
        self.len = HEAD_BYTES_MAX - free.len();
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
