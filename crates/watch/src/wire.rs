//! Pieces of encoded protobuf: short runs built on the stack, and records passed on without copying.

use types::Record;

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

    pub(crate) fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// A number field; nothing if it is zero.
    pub(crate) fn number(&mut self, tag: u8, number: u64) {
        if number != 0 {
            self.byte(tag);
            self.varint(number);
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
