//! The chunked coding of HTTP/1.1 bodies, taken off where the bytes lie.
//!
//! Invariants
//! - However the bytes are cut, the same body comes out. Nothing of the coding stays in the buffer, whole or not.
//! - A chunk's claimed length takes no memory, and is bounded.
//! - The last chunk is the end: trailers behind it are nobody's, as no other answer follows on a stream's connection.
//!
//! Source: RFC 9112, section 7.1. White space behind a length is taken for an extension, and ignored like one.

use bytes::{Buf, BytesMut};

/// Twice the longest message.
const CHUNK_BYTES_MAX: usize = 1 << 30;
/// Of a length, with leading zeros.
const DIGITS_MAX: u8 = 16;
/// Between a length and the end of its line.
const EXTENSION_BYTES_MAX: u16 = 4096;

/// Why bytes are no chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("byte {0:#04x} where none such belongs between chunks")]
    Byte(u8),
    #[error("chunk of more than {CHUNK_BYTES_MAX} bytes")]
    TooLong,
    #[error("chunk with an extension of more than {EXTENSION_BYTES_MAX} bytes")]
    Extension,
}

/// Reads the chunks of one body.
#[derive(Debug)]
pub(crate) struct Chunks(Place);

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Place {
    Length {
        digits: u8,
        length: usize,
    },
    Extension {
        bytes: u16,
        length: usize,
    },
    /// The line feed behind a length.
    LengthEnd {
        length: usize,
    },
    Data {
        left: usize,
    },
    DataReturn,
    DataEnd,
    Nothing,
}

impl Place {
    const START: Place = Place::Length { digits: 0, length: 0 };
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks(Place::START)
    }

    /// Whether the last chunk has come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.0, Place::Nothing)
    }

    /// Takes the coding off all that `buffer` holds from `start` on; what stays there is the body's. Of a lone chunk nothing is moved.
    ///
    /// # Errors
    /// What is wrong with the first byte that does not belong; the body's bytes before it stay in the buffer.
    pub(crate) fn strip(&mut self, buffer: &mut BytesMut, start: usize) -> Result<(), ChunkError> {
        let (mut from, mut to) = (start, start);
        let mut outcome = Ok(());
        while from < buffer.len() && outcome.is_ok() && !self.is_over() {
            let Place::Data { left } = self.0 else {
                outcome = self.0.after(buffer[from]).map(|place| self.0 = place);
                from += 1;
                continue;
            };
            if to == 0 {
                buffer.advance(from);
                from = 0;
            }
            let len = left.min(buffer.len() - from);
            if from != to {
                buffer.copy_within(from..from + len, to);
            }
            (from, to) = (from + len, to + len);
            self.0 = if len < left { Place::Data { left: left - len } } else { Place::DataReturn };
        }
        buffer.truncate(to);
        outcome
    }
}

impl Place {
    /// What comes after a byte that is none of a chunk's data.
    fn after(self, byte: u8) -> Result<Place, ChunkError> {
        Ok(match (self, byte) {
            (Place::Length { digits, length }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).expect("it is one");
                let length = length << 4 | digit as usize;
                if digits == DIGITS_MAX || length > CHUNK_BYTES_MAX {
                    return Err(ChunkError::TooLong);
                }
                Place::Length { digits: digits + 1, length }
            }
            (Place::Length { digits: 1.., length } | Place::Extension { length, .. }, b'\r') => {
                Place::LengthEnd { length }
            }
            (Place::Length { digits: 1.., length }, b';' | b' ' | b'\t') => Place::Extension { bytes: 1, length },
            (Place::Extension { bytes: EXTENSION_BYTES_MAX, .. }, _) => return Err(ChunkError::Extension),
            (Place::Extension { bytes, length }, byte) if byte != b'\n' => {
                Place::Extension { bytes: bytes + 1, length }
            }
            (Place::LengthEnd { length: 0 }, b'\n') => Place::Nothing,
            (Place::LengthEnd { length }, b'\n') => Place::Data { left: length },
            (Place::DataReturn, b'\r') => Place::DataEnd,
            (Place::DataEnd, b'\n') => Place::START,
            (_, byte) => return Err(ChunkError::Byte(byte)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What is left of bytes that come in pieces, behind `before`, which is the body's already.
    fn strip(before: &[u8], mut bytes: &[u8], cuts: &[usize]) -> (Result<bool, ChunkError>, BytesMut) {
        let mut chunks = Chunks::new();
        let mut buffer = BytesMut::from(before);
        for cut in cuts.iter().cycle() {
            let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
            let start = buffer.len();
            buffer.extend_from_slice(piece);
            if let Err(error) = chunks.strip(&mut buffer, start) {
                return (Err(error), buffer);
            }
            bytes = rest;
            if bytes.is_empty() {
                break;
            }
        }
        (Ok(chunks.is_over()), buffer)
    }

    /// However it is cut.
    fn stripped(bytes: &[u8]) -> (Result<bool, ChunkError>, String) {
        let whole = strip(b"", bytes, &[bytes.len().max(1)]);
        for cut in 1..bytes.len() {
            assert_eq!(strip(b"", bytes, &[cut]), whole);
        }
        (whole.0, String::from_utf8(whole.1.to_vec()).unwrap())
    }

    fn body(bytes: &[u8]) -> (bool, String) {
        let (outcome, body) = stripped(bytes);
        (outcome.unwrap(), body)
    }

    #[test]
    fn chunks_are_joined_until_the_last_one() {
        assert_eq!(body(b"3\r\nabc\r\n"), (false, "abc".to_owned()));
        assert_eq!(body(b"3\r\nabc\r\n1\r\nd\r\n0000A\r\n0123"), (false, "abcd0123".to_owned()));
        assert_eq!(body(b"3\r\nabc\r\n0\r\n\r\n"), (true, "abc".to_owned()));
        // Trailers, and whatever else comes after the end.
        assert_eq!(body(b"1\r\na\r\n00\r\nX: y\r\n\r\n9"), (true, "a".to_owned()));
        assert_eq!(body(b"1;name=\"value\"\r\na\r\n2 \t\r\nbc\r\n"), (false, "abc".to_owned()));
    }

    #[test]
    fn what_is_no_chunk_is_refused_and_what_came_before_it_stays() {
        let refused = |bytes: &[u8]| {
            let (outcome, body) = stripped(bytes);
            (outcome.unwrap_err(), body)
        };
        let byte = |byte, body: &str| (ChunkError::Byte(byte), body.to_owned());
        assert_eq!(refused(b"\r\n"), byte(b'\r', ""));
        assert_eq!(refused(b";x\r\n"), byte(b';', ""));
        assert_eq!(refused(b" 3\r\nabc\r\n"), byte(b' ', ""));
        assert_eq!(refused(b"-3\r\nabc\r\n"), byte(b'-', ""));
        assert_eq!(refused(b"0x3\r\nabc\r\n"), byte(b'x', ""));
        assert_eq!(refused(b"3\nabc\r\n"), byte(b'\n', ""));
        assert_eq!(refused(b"3\rabc\r\n"), byte(b'a', ""));
        assert_eq!(refused(b"3;x\nabc\r\n"), byte(b'\n', ""));
        assert_eq!(refused(b"1\r\na\r\n3\r\nabcd\r\n"), byte(b'd', "aabc"));
        assert_eq!(refused(b"3\r\nabc\n"), byte(b'\n', "abc"));
        assert_eq!(refused(b"3\r\nabc\r\r\n"), byte(b'\r', "abc"));
    }

    #[test]
    fn lengths_and_extensions_are_bounded_and_cost_nothing() {
        let refused = |text: String| stripped(text.as_bytes()).0.unwrap_err();
        assert_eq!(refused("40000001".to_owned()), ChunkError::TooLong);
        assert_eq!(refused("ffffffffffffffffffff".to_owned()), ChunkError::TooLong);
        assert_eq!(refused("0".repeat(17)), ChunkError::TooLong);
        let mut buffer = BytesMut::from(&b"40000000\r\nx"[..]);
        Chunks::new().strip(&mut buffer, 0).unwrap();
        assert!(buffer == "x" && buffer.capacity() < 1000);
        let extended = |bytes| strip(b"", format!("1;{}\r\na\r\n", "x".repeat(bytes)).as_bytes(), &[100]);
        assert_eq!(extended(4095), (Ok(false), BytesMut::from("a")));
        assert_eq!(extended(4096).0, Err(ChunkError::Extension));
    }

    #[test]
    fn of_a_lone_chunk_nothing_is_moved() {
        let mut buffer = BytesMut::from(&b"5\r\nabcde\r\n"[..]);
        let data = buffer[3..].as_ptr();
        Chunks::new().strip(&mut buffer, 0).unwrap();
        assert_eq!((&buffer[..], buffer.as_ptr()), (&b"abcde"[..], data));
    }

    proptest! {
        #[test]
        fn bodies_come_out_as_they_went_in_however_they_are_cut(
            before in vec(any::<u8>(), 0..20),
            pieces in vec(vec(any::<u8>(), 1..300), 0..10),
            cuts in vec(1..60usize, 1..20),
            ends in any::<bool>(),
        ) {
            let mut coded = Vec::new();
            for piece in &pieces {
                coded.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                coded.extend_from_slice(piece);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(if ends { b"0\r\n\r\n" } else { b"" });
            let (outcome, body) = strip(&before, &coded, &cuts);
            prop_assert_eq!(outcome, Ok(ends));
            prop_assert_eq!(body, [before, pieces.concat()].concat());
        }

        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(
            bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b';'), b'0'..b'4', any::<u8>()], 0..100),
            cuts in vec(1..9usize, 1..20),
        ) {
            prop_assert_eq!(strip(b"", &bytes, &cuts), strip(b"", &bytes, &[bytes.len().max(1)]));
        }
    }
}
