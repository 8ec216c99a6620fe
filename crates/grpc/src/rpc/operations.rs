//! How many operations an encoded transaction has, which shows before it is decoded: one that says nothing takes two
//! bytes, and a hundred times that once it is decoded.

use std::mem::size_of;

use api::etcdserverpb::{Compare, RequestOp};
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

/// What an operation or a comparison takes when it is decoded, what lies beside it in bytes not among it.
pub(super) const OPERATION_BYTES: usize = {
    let (operation, comparison) = (size_of::<RequestOp>(), size_of::<Compare>());
    if operation > comparison { operation } else { comparison }
};

/// The decoder follows messages no deeper.
const DEPTH_MAX: usize = 100;

const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;
/// `request_txn` of an operation.
const NESTED: u32 = 4;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of the longest list of the transaction itself.
    pub(super) longest: usize,
    /// Of all lists, of the transactions within it too.
    pub(super) all: usize,
}

/// Counts what `txn` has up to where it cannot be read.
pub(super) fn count(txn: &[u8]) -> Counts {
    let mut all = 0;
    let longest = count_lists(txn, 0, &mut all);
    Counts { longest, all }
}

fn count_lists(mut txn: &[u8], depth: usize, all: &mut usize) -> usize {
    let mut lists = [0; 3];
    while let Some((number, mut operation)) = take_field(&mut txn) {
        match number {
            COMPARE => lists[0] += 1,
            SUCCESS | FAILURE => {
                lists[number as usize - 1] += 1;
                while let Some((number, nested)) = take_field(&mut operation) {
                    if number == NESTED && depth < DEPTH_MAX {
                        count_lists(nested, depth + 1, all);
                    }
                }
            }
            _ => {}
        }
    }
    *all += lists.iter().sum::<usize>();
    lists.into_iter().max().unwrap_or_default()
}

/// The next field that has a length, and what it holds; those that have none are passed over.
fn take_field<'a>(wire: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    while !wire.is_empty() {
        let (number, wire_type) = decode_key(wire).ok()?;
        let len = match wire_type {
            WireType::Varint => {
                decode_varint(wire).ok()?;
                continue;
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(wire).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let content = wire.get(..len)?;
        wire.advance(len);
        if wire_type == WireType::LengthDelimited {
            return Some((number, content));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use api::etcdserverpb::request_op::Request;
    use api::etcdserverpb::{PutRequest, TxnRequest};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn operation(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    #[test]
    fn operations_are_counted_at_every_depth() {
        let put = operation(Request::RequestPut(PutRequest { key: "k".into(), lease: 5, ..PutRequest::default() }));
        let compare = vec![Compare { key: "k".into(), result: 1, ..Compare::default() }; 3];
        let inner = TxnRequest { compare: compare.clone(), success: vec![put.clone()], failure: vec![] };
        let nested = operation(Request::RequestTxn(inner));
        let outer = TxnRequest { compare, success: vec![put, nested.clone()], failure: vec![nested; 5] };
        // 3, 2 and 5 operations, and 4 in each of 6 that are transactions.
        assert_eq!(count(&outer.encode_to_vec()), Counts { longest: 5, all: 10 + 6 * 4 });
        assert_eq!(count(b""), Counts::default());
        assert_eq!(count(&b"\x0a\0\x12\0".repeat(1000)), Counts { longest: 1000, all: 2000 });
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(count(&bytes).all <= bytes.len());
        }
    }
}
