//! Encoding of responses, by hand where stored records are copied into them as they are.
//!
//! Zero fields are left out and fields ascend, as etcd's encoder does it. Tags are one byte: every field number here
//! is below 16.

use bytes::{BufMut, BytesMut};
use types::{Record, put_varint, varint_len};

/// A tag of a length-delimited field.
pub(crate) const fn bytes_tag(field: u8) -> u8 {
    field << 3 | 2
}

/// A tag of a number.
pub(crate) const fn number_tag(field: u8) -> u8 {
    field << 3
}

const HEADER: u8 = bytes_tag(1);
const HEADER_REVISION: u8 = number_tag(3);
const RANGE_MORE: u8 = number_tag(3);
const RANGE_COUNT: u8 = number_tag(4);

/// Appends the head of a length-delimited field; `len` bytes must follow.
pub(crate) fn put_len(out: &mut BytesMut, tag: u8, len: u64) {
    out.put_u8(tag);
    put_varint(out, len);
}

/// How many bytes a length-delimited field with `len` bytes takes.
pub(crate) fn delimited_len(len: u64) -> u64 {
    1 + varint_len(len) as u64 + len
}

/// Appends a length-delimited field, even if it is empty.
pub(crate) fn put_bytes(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    put_len(out, tag, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Appends a number, unless it is 0.
pub(crate) fn put_number(out: &mut BytesMut, tag: u8, number: i64) {
    types::put_number(out, tag, number as u64);
}

pub(crate) fn number_len(number: i64) -> usize {
    types::number_len(number as u64)
}

/// Appends an embedded `KeyValue`.
pub(crate) fn put_record(out: &mut BytesMut, tag: u8, record: &Record) {
    put_bytes(out, tag, record.as_bytes());
}

pub(crate) fn record_len(record: &Record) -> u64 {
    delimited_len(record.as_bytes().len() as u64)
}

/// Appends the header of an answer inside a transaction: it has only a revision.
pub(crate) fn put_inner_header(out: &mut BytesMut, revision: i64) {
    put_len(out, HEADER, number_len(revision) as u64);
    put_number(out, HEADER_REVISION, revision);
}

pub(crate) fn inner_header_len(revision: i64) -> u64 {
    delimited_len(number_len(revision) as u64)
}

/// Appends what follows the keys in a `RangeResponse`.
pub(crate) fn put_range_tail(out: &mut BytesMut, more: bool, count: i64) {
    put_number(out, RANGE_MORE, i64::from(more));
    put_number(out, RANGE_COUNT, count);
}

pub(crate) fn range_tail_len(more: bool, count: i64) -> usize {
    number_len(i64::from(more)) + number_len(count)
}
