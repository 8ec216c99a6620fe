//! Paths and queries of plain HTTP requests, read and written as Go's `net/url` and `net/http` do.

use std::borrow::Cow;

/// The path of a request without its escapes; `None` if one of them is broken.
pub(crate) fn unescape(path: &str) -> Option<Cow<'_, [u8]>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path.as_bytes()));
    }
    let mut unescaped = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        if *byte != b'%' {
            unescaped.push(*byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        // Taken one by one, because a number may have a sign where an escape may not.
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        unescaped.push(u8::try_from(high? << 4 | low?).expect("two digits make a byte"));
        rest = after;
    }
    Some(Cow::Owned(unescaped))
}

/// What `path` comes to without empty parts, `.` and `..`; a slash at its end stays.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = Vec::with_capacity(path.len() + 1);
    for part in &parts {
        clean.push(b'/');
        clean.extend(*part);
    }
    if parts.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    clean
}

/// Writes a path with escapes for all that is special in one.
pub(crate) fn escape(path: &[u8]) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => escaped.push(char::from(*byte)),
            _ if b"-_.~$&+,/:;=@".contains(byte) => escaped.push(char::from(*byte)),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

/// The query of a URL.
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn new(raw: Option<&'a str>) -> Query<'a> {
        Query(raw.unwrap_or_default())
    }

    /// All values of `name`, in their order. A pair that is broken or has a semicolon does not count.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = Vec<u8>> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        pairs.filter_map(move |pair| {
            let pair = pair.replace('+', " ");
            let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
            let (key, value) = (unescape(key)?, unescape(value)?);
            (*key == *name.as_bytes()).then(|| value.into_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("/health").unwrap(), &b"/health"[..]);
        assert_eq!(unescape("/he%61l%74h%2F%fF+").unwrap(), &b"/health/\xff+"[..]);
        for broken in ["/%", "/%2", "/%zz", "/%+1", "/%%30"] {
            assert_eq!(unescape(broken), None, "{broken}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        let cases = [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/health", "/health"),
            ("/health/", "/health/"),
            ("//health", "/health"),
            ("/health//", "/health/"),
            ("/./health/.", "/health"),
            ("/health/..", "/"),
            ("/..//readyz/", "/readyz/"),
            ("/a/b/../../../c", "/c"),
            ("/...", "/..."),
        ];
        for (path, expected) in cases {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn what_is_special_is_escaped() {
        assert_eq!(escape(b"/a-b_c.d~e/$&+,:;=@"), "/a-b_c.d~e/$&+,:;=@");
        assert_eq!(escape(b"/\"<>'? %#!\xc3\xa9\r\n"), "/%22%3C%3E%27%3F%20%25%23%21%C3%A9%0D%0A");
    }

    #[test]
    fn queries_give_their_values() {
        let query = Query::new(Some("exclude=a&x&verb%6fse&&exclude=%4E+b&exclude=%&exclude=c;d&exclude"));
        let values = |name: &str| query.values(name).map(|value| String::from_utf8(value).unwrap()).collect::<Vec<_>>();
        assert_eq!(values("exclude"), ["a", "N b", ""]);
        assert_eq!((values("verbose"), values("x"), values("")), (vec![String::new()], vec![String::new()], vec![]));
        assert_eq!(Query::new(None).values("").next(), None);
    }
}
