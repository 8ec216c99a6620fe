//! Numbers as protobuf encodes them, for the few messages that are written by hand.

use bytes::BufMut;

/// Appends `number` as a varint.
pub fn put_varint(out: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// How many bytes [`put_varint`] appends for `number`.
pub fn varint_len(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// Reads the varint that starts at `at`; gives it and where it ends, or nothing if it is cut short or too large.
pub(crate) fn read_varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let (mut number, mut shift) = (0u64, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        if shift > 63 || (shift == 63 && byte > 1) {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number, at));
        }
        shift += 7;
    }
}

/// Appends a number field, unless the number is 0. A signed number goes in as its bits.
pub fn put_number(out: &mut impl BufMut, tag: u8, number: u64) {
    if number != 0 {
        out.put_u8(tag);
        put_varint(out, number);
    }
}

/// How many bytes [`put_number`] appends for `number`.
pub fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint_len(number) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varint_len_is_what_put_varint_appends(number in any::<u64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            prop_assert_eq!(out.len(), varint_len(number));
            prop_assert_eq!(read_varint(&out, 0), Some((number, out.len())));
        }

        #[test]
        fn number_len_is_what_put_number_appends(number in prop_oneof![Just(0), any::<u64>()]) {
            let mut out = Vec::new();
            put_number(&mut out, 8, number);
            prop_assert_eq!(out.len(), number_len(number));
        }
    }
}
