//! Which keys a command means: one, those up to another, those with a prefix, or all from one on.

use bytes::Bytes;

use crate::failure::Failure;
use crate::flags::Given;

/// Stands for no end as a range's end, and for the smallest key as its beginning.
const ZERO: &[u8] = b"\0";

/// First key and end of the range, as requests have them, from words and `--prefix` and `--from-key`.
///
/// # Errors
/// If the flags do not go together or there are too many words for them.
pub(crate) fn keys(given: &Given) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (given.is_set("prefix"), given.is_set("from-key"));
    let key = given.words.first().map_or(&[][..], |key| key);
    if given.words.len() > 1 && (prefix || from_key) {
        return Err(Failure::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    if prefix {
        return Ok(with_prefix(key));
    }
    if from_key {
        return Ok((Bytes::copy_from_slice(if key.is_empty() { ZERO } else { key }), Bytes::from_static(ZERO)));
    }
    let end = given.words.get(1).map_or(&[][..], |end| end);
    Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(end)))
}

/// # Errors
/// If both flags are given.
pub(crate) fn either_prefix_or_from_key(given: &Given) -> Result<(), Failure> {
    match given.is_set("prefix") && given.is_set("from-key") {
        true => Err(Failure::arguments("`--prefix` and `--from-key` cannot be set at the same time, choose one")),
        false => Ok(()),
    }
}

/// The range of all keys that begin with `prefix`; with an empty one, of all keys.
pub(crate) fn with_prefix(prefix: &[u8]) -> (Bytes, Bytes) {
    let start = if prefix.is_empty() { ZERO } else { prefix };
    (Bytes::copy_from_slice(start), prefix_end(prefix))
}

/// The first key past all those with `prefix`.
fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(prefix_end(b"ab"), "ac");
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff"), "\0");
        assert_eq!(with_prefix(b""), (Bytes::from("\0"), Bytes::from("\0")));
    }
}
