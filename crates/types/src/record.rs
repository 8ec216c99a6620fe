//! The stored form of one change of one key: an encoded `mvccpb.KeyValue`, shared and never altered.
//!
//! The same bytes lie in the backend, in memory, in range answers and in watch events, so a value is encoded once
//! in its life. Zero fields are left out and fields ascend, as etcd's own encoder does it: hashes stay equal.
//!
//! A tombstone holds nothing but the key.

use std::fmt;
use std::sync::Arc;

use bytes::BufMut;

use crate::LeaseId;
use crate::field::{number_len, put_number, put_varint, read_varint, varint_len};

/// An encoded `mvccpb.KeyValue`. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

/// The numbers of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMeta {
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: LeaseId,
}

const KEY: u8 = 1 << 3 | 2;
const CREATE_REVISION: u8 = 2 << 3;
const MOD_REVISION: u8 = 3 << 3;
const VERSION: u8 = 4 << 3;
const VALUE: u8 = 5 << 3 | 2;
const LEASE: u8 = 6 << 3;

impl Record {
    /// The record of a put.
    pub fn put(key: &[u8], value: &[u8], meta: RecordMeta) -> Record {
        let numbers = [meta.create_revision, meta.mod_revision, meta.version, meta.lease.0].map(|number| number as u64);
        let len = bytes_field_len(key) + bytes_field_len(value) + numbers.map(number_len).iter().sum::<usize>();
        let [create_revision, mod_revision, version, lease] = numbers;
        Record::filled(len, |out| {
            put_bytes_field(out, KEY, key);
            put_number(out, CREATE_REVISION, create_revision);
            put_number(out, MOD_REVISION, mod_revision);
            put_number(out, VERSION, version);
            put_bytes_field(out, VALUE, value);
            put_number(out, LEASE, lease);
        })
    }

    /// The record of a deletion.
    pub fn tombstone(key: &[u8]) -> Record {
        Record::filled(bytes_field_len(key), |out| put_bytes_field(out, KEY, key))
    }

    /// A record of `len` bytes, which `fill` writes where they stay.
    fn filled(len: usize, fill: impl FnOnce(&mut &mut [u8])) -> Record {
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
        let mut rest = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
        fill(&mut rest);
        debug_assert!(rest.is_empty(), "the length was reckoned");
        Record(bytes)
    }

    /// A record from stored bytes. Returns `None` if they are not an encoded `KeyValue` with a key, in field order.
    pub fn from_stored(bytes: &[u8]) -> Option<Record> {
        let parts = Parts::parse(bytes)?;
        (!parts.key.is_empty()).then(|| Record(bytes.into()))
    }

    /// The encoded message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let (len, at) = read_varint(&self.0, 1).expect("a record starts with its key");
        &self.0[at..at + len as usize]
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        self.parts().value
    }

    /// The numbers; all zero for a tombstone.
    pub fn meta(&self) -> RecordMeta {
        self.parts().meta
    }

    fn parts(&self) -> Parts<'_> {
        Parts::parse(&self.0).expect("records are well formed from construction")
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        f.debug_struct("Record")
            .field("key", &parts.key.escape_ascii().to_string())
            .field("value", &parts.value.escape_ascii().to_string())
            .field("meta", &parts.meta)
            .finish()
    }
}

#[derive(Default)]
struct Parts<'a> {
    key: &'a [u8],
    value: &'a [u8],
    meta: RecordMeta,
}

impl<'a> Parts<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Parts<'a>> {
        let mut parts = Parts::default();
        let (mut at, mut previous) = (0, 0);
        while at < bytes.len() {
            let tag = bytes[at];
            if tag <= previous {
                return None;
            }
            previous = tag;
            let (number, after) = read_varint(bytes, at + 1)?;
            at = after;
            match tag {
                KEY | VALUE => {
                    let end = at.checked_add(usize::try_from(number).ok()?)?;
                    let field = bytes.get(at..end)?;
                    at = end;
                    if tag == KEY { parts.key = field } else { parts.value = field }
                }
                CREATE_REVISION => parts.meta.create_revision = number as i64,
                MOD_REVISION => parts.meta.mod_revision = number as i64,
                VERSION => parts.meta.version = number as i64,
                LEASE => parts.meta.lease = LeaseId(number as i64),
                _ => return None,
            }
        }
        Some(parts)
    }
}

fn put_bytes_field(out: &mut impl BufMut, tag: u8, field: &[u8]) {
    if !field.is_empty() {
        out.put_u8(tag);
        put_varint(out, field.len() as u64);
        out.put_slice(field);
    }
}

fn bytes_field_len(field: &[u8]) -> usize {
    if field.is_empty() { 0 } else { 1 + varint_len(field.len() as u64) + field.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const META: RecordMeta = RecordMeta { create_revision: 2, mod_revision: 300, version: 2, lease: LeaseId(-1) };

    #[test]
    fn put_has_the_bytes_of_the_protobuf_message() {
        let record = Record::put(b"k", b"v1", META);
        let expected = b"\x0a\x01k\x10\x02\x18\xac\x02\x20\x02\x2a\x02v1\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(record.as_bytes(), expected);
    }

    #[test]
    fn tombstone_holds_only_the_key() {
        let record = Record::tombstone(b"gone");
        assert_eq!(record.as_bytes(), b"\x0a\x04gone");
        assert_eq!((record.key(), record.value()), (&b"gone"[..], &b""[..]));
    }

    #[test]
    fn stored_bytes_that_are_no_record_are_refused() {
        for bytes in [&b""[..], b"\x0a", b"\x0a\x05k", b"\x10\x02", b"\x0a\x01k\x0a\x01k", b"\x0a\x01k\x7a\x00"] {
            assert_eq!(Record::from_stored(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_is_read_back(
            key in prop::collection::vec(any::<u8>(), 1..300),
            value in prop::collection::vec(any::<u8>(), 0..300),
            numbers in any::<[i64; 4]>(),
        ) {
            let meta = RecordMeta {
                create_revision: numbers[0],
                mod_revision: numbers[1],
                version: numbers[2],
                lease: LeaseId(numbers[3]),
            };
            let record = Record::put(&key, &value, meta);
            let read = Record::from_stored(record.as_bytes()).expect("what was written is well formed");
            prop_assert_eq!((read.key(), read.value(), read.meta()), (&key[..], &value[..], meta));
        }
    }
}
