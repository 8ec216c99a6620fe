//! Which keys a request means.

use bytes::Bytes;

/// The end of a [`KeyRange`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RangeEnd {
    /// Only the start key itself.
    Single,
    /// Up to, and without, this key.
    Before(Bytes),
    /// To the last key there is.
    Unbounded,
}

/// A set of neighbouring keys, as the pair `key`, `range_end` of etcd's requests describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: RangeEnd,
}

impl KeyRange {
    /// The range a request's `key` and `range_end` mean: no end is one key, one zero byte is "to the end".
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = match range_end.as_ref() {
            b"" => RangeEnd::Single,
            b"\0" => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        KeyRange { start: key, end }
    }

    /// Just `key`.
    pub fn single(key: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: key.into(), end: RangeEnd::Single }
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::new(), end: RangeEnd::Unbounded }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let kept = prefix.iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1);
        let end = match kept {
            0 => RangeEnd::Unbounded,
            _ => {
                let mut end = prefix[..kept].to_vec();
                end[kept - 1] += 1;
                RangeEnd::Before(end.into())
            }
        };
        KeyRange { start: Bytes::copy_from_slice(prefix), end }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
        }
    }

    /// Whether `key` lies at or past the end of the range.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key > self.start.as_ref(),
            RangeEnd::Before(end) => key >= end.as_ref(),
            RangeEnd::Unbounded => false,
        }
    }

    /// Whether no key can lie in the range: its end is at or before its start.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// Whether the range is one key.
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(key: &'static [u8], end: &'static [u8]) -> KeyRange {
        KeyRange::from_wire(Bytes::from_static(key), Bytes::from_static(end))
    }

    #[test]
    fn wire_forms_select_what_etcd_selects() {
        assert!(wire(b"k", b"").contains(b"k") && !wire(b"k", b"").contains(b"ka"));
        assert!(wire(b"k", b"\0").contains(b"zz") && !wire(b"k", b"\0").contains(b"j"));
        assert!(wire(b"a", b"c").contains(b"b") && !wire(b"a", b"c").contains(b"c"));
        assert!(wire(b"c", b"a").is_empty() && wire(b"c", b"c").is_empty());
    }

    #[test]
    fn prefix_ends_after_the_last_key_of_the_prefix() {
        assert_eq!(KeyRange::prefix(b"ab").end, RangeEnd::Before(Bytes::from_static(b"ac")));
        assert_eq!(KeyRange::prefix(b"a\xff\xff").end, RangeEnd::Before(Bytes::from_static(b"b")));
        assert_eq!(KeyRange::prefix(b"\xff").end, RangeEnd::Unbounded);
        assert_eq!(KeyRange::prefix(b"").end, RangeEnd::Unbounded);
    }
}
