//! MVCC revisions and their stored form.

use std::fmt;

/// The version of the store at which a key changed.
///
/// `main` rises by one for every write that changes something; `sub` counts the changes inside it from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

impl Revision {
    /// The revision of the first change of main revision `main`.
    pub const fn first(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.main, self.sub)
    }
}

const PLAIN_LEN: usize = 17;
const MARKED_LEN: usize = 18;
const SEPARATOR: u8 = b'_';
const TOMBSTONE_MARK: u8 = b't';

/// The key of one row of the backend's `key` table, byte for byte etcd's: main revision (8 bytes, big-endian),
/// `_`, sub revision (8 bytes, big-endian), and a final `t` if the row is a deletion.
///
/// Byte order is revision order, so rows are only ever appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub revision: Revision,
    pub tombstone: bool,
}

/// The bytes are not a row key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseRevisionError;

impl fmt::Display for ParseRevisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a revision: want 17 bytes, or 18 with a final 't'")
    }
}

impl std::error::Error for ParseRevisionError {}

impl RowKey {
    /// The stored bytes; the last byte of the buffer is used only by tombstones.
    pub fn encode(self) -> EncodedRowKey {
        let mut bytes = [0; MARKED_LEN];
        bytes[..8].copy_from_slice(&self.revision.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..PLAIN_LEN].copy_from_slice(&self.revision.sub.to_be_bytes());
        bytes[PLAIN_LEN] = TOMBSTONE_MARK;
        EncodedRowKey { bytes, len: if self.tombstone { MARKED_LEN } else { PLAIN_LEN } }
    }

    /// Reads what [`RowKey::encode`] wrote.
    ///
    /// # Errors
    /// If length, separator or mark differ.
    pub fn decode(bytes: &[u8]) -> Result<RowKey, ParseRevisionError> {
        let tombstone = match bytes.len() {
            PLAIN_LEN => false,
            MARKED_LEN if bytes[PLAIN_LEN] == TOMBSTONE_MARK => true,
            _ => return Err(ParseRevisionError),
        };
        if bytes[8] != SEPARATOR {
            return Err(ParseRevisionError);
        }
        let number = |at: usize| {
            let mut raw = [0; 8];
            raw.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(raw)
        };
        Ok(RowKey { revision: Revision { main: number(0), sub: number(9) }, tombstone })
    }
}

/// The stored bytes of a [`RowKey`].
#[derive(Clone, Copy, Debug)]
pub struct EncodedRowKey {
    bytes: [u8; MARKED_LEN],
    len: usize,
}

impl AsRef<[u8]> for EncodedRowKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_key_has_etcds_bytes() {
        let put = RowKey { revision: Revision { main: 2, sub: 1 }, tombstone: false };
        assert_eq!(put.encode().as_ref(), b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01");
        let delete = RowKey { tombstone: true, ..put };
        assert_eq!(delete.encode().as_ref(), b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01t");
        assert_eq!(RowKey::decode(put.encode().as_ref()), Ok(put));
        assert_eq!(RowKey::decode(delete.encode().as_ref()), Ok(delete));
    }

    #[test]
    fn row_key_refuses_other_bytes() {
        assert_eq!(RowKey::decode(b""), Err(ParseRevisionError));
        assert_eq!(RowKey::decode(&[0; 17]), Err(ParseRevisionError));
        assert_eq!(RowKey::decode(b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01x"), Err(ParseRevisionError));
    }
}
