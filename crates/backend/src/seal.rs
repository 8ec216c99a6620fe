//! The checksum behind every stored value.
//!
//! redb checks its own page checksums only when it repairs a file, not when it reads one. So each value carries a
//! CRC-32C over its key and itself, and no bit that rots in either is ever handed out as data.

/// What sealing adds to a value.
pub(crate) const SEAL_LEN: usize = 4;

/// Writes `value` and its seal into `out`, in place of what was there.
pub(crate) fn seal(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(value);
    out.extend_from_slice(&checksum(key, value).to_le_bytes());
}

/// The value that was sealed; `None` if it, its key or its seal changed since.
pub(crate) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (value, _) = sealed.split_last_chunk::<SEAL_LEN>()?;
    (seal_of(sealed) == checksum(key, value)).then_some(value)
}

/// The seal of what was sealed; zero if that is too short to have one.
pub(crate) fn seal_of(sealed: &[u8]) -> u32 {
    sealed.last_chunk::<SEAL_LEN>().map_or(0, |stored| u32::from_le_bytes(*stored))
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sealed_value_has_these_bytes() {
        let mut sealed = Vec::new();
        seal(b"consistent_index", b"\0\0\0\0\0\0\0\x07", &mut sealed);
        assert_eq!(sealed, b"\0\0\0\0\0\0\0\x07\x8b\x6a\x49\xed");
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_seen(
            key in prop::collection::vec(any::<u8>(), 1..40),
            value in prop::collection::vec(any::<u8>(), 0..400),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut sealed = Vec::new();
            seal(&key, &value, &mut sealed);
            prop_assert_eq!(unseal(&key, &sealed), Some(&value[..]));
            let bit = bit.index((key.len() + sealed.len()) * 8);
            let (mut key, mut sealed) = (key, sealed);
            let key_len = key.len();
            let byte = if bit / 8 < key_len { &mut key[bit / 8] } else { &mut sealed[bit / 8 - key_len] };
            *byte ^= 1 << (bit % 8);
            prop_assert_eq!(unseal(&key, &sealed), None);
        }
    }
}
