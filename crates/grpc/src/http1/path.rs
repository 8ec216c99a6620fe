//! Paths as Go's `ServeMux` takes them: unescaped, and only in their shortest form.

/// The path without escapes; `None` if a `%` begins none, or the result is not UTF-8.
pub(super) fn unescaped(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Without empty, `.` and `..` elements; a slash at the end stays.
pub(super) fn cleaned(path: &str) -> String {
    let mut elements = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => drop(elements.pop()),
            _ => elements.push(element),
        }
    }
    let mut cleaned = String::from("/") + &elements.join("/");
    if path.ends_with('/') && cleaned.len() > 1 {
        cleaned.push('/');
    }
    cleaned
}

/// For a URL.
pub(super) fn escaped(path: &str) -> String {
    const PLAIN: &[u8] = b"-_.~$&+,/:;=@";
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unescaped_once() {
        assert_eq!(unescaped("/%68ealth%252f").as_deref(), Some("/health%2f"));
        for bad in ["/%", "/%4", "/%zz", "/%+1", "/%ff"] {
            assert_eq!(unescaped(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_shortest_form_keeps_the_last_slash() {
        for (path, expected) in [
            ("/health", "/health"),
            ("/", "/"),
            ("//", "/"),
            ("//health", "/health"),
            ("/a/../health", "/health"),
            ("/../health", "/health"),
            ("/health//", "/health/"),
            ("/health/.", "/health"),
            ("/./version", "/version"),
        ] {
            assert_eq!(cleaned(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_part_of_a_path_is_escaped() {
        assert_eq!(escaped("/a b?c#\u{fc}<"), "/a%20b%3Fc%23%C3%BC%3C");
        assert_eq!(escaped("/v3:x/@~"), "/v3:x/@~");
    }
}
