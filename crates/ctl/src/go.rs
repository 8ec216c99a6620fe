//! Go's ways of reading quoted bytes and of complaining about numbers, which are etcdctl's.

use config::go::NumberError;
use types::go_quote;

/// Reads a decimal or hexadecimal number as `strconv.ParseInt` does.
///
/// # Errors
/// Go's text.
pub(crate) fn parse_int(word: &[u8], radix: u32) -> Result<i64, String> {
    let text = String::from_utf8_lossy(word);
    i64::from_str_radix(&text, radix).map_err(|error| number_error("ParseInt", &text, error.kind()))
}

/// As [`parse_int`], without a sign.
pub(crate) fn parse_uint(word: &[u8], radix: u32) -> Result<u64, String> {
    let text = String::from_utf8_lossy(word);
    match text.starts_with('+') {
        true => Err(complaint("ParseUint", &text, NumberError::Syntax)),
        false => u64::from_str_radix(&text, radix).map_err(|error| number_error("ParseUint", &text, error.kind())),
    }
}

fn number_error(function: &str, text: &str, kind: &std::num::IntErrorKind) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let error = if matches!(kind, PosOverflow | NegOverflow) { NumberError::Range } else { NumberError::Syntax };
    complaint(function, text, error)
}

/// What Go's `strconv` says of a text that is no number.
pub(crate) fn complaint(function: &str, text: &str, error: NumberError) -> String {
    let why = match error {
        NumberError::Syntax => "invalid syntax",
        NumberError::Range => "value out of range",
    };
    format!("strconv.{function}: parsing {}: {why}", go_quote(text))
}

/// Reads what `%q` wrote at the beginning of `text`: in double quotes with Go's escapes, or raw between backquotes.
/// Returns the bytes and the rest. `None` if there is no such thing.
pub(crate) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match text.split_first()? {
        (b'`', rest) => {
            let end = rest.iter().position(|byte| *byte == b'`')?;
            Some((rest[..end].to_vec(), &rest[end + 1..]))
        }
        (b'"', rest) => unescape(rest),
        _ => None,
    }
}

fn unescape(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut bytes = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        match byte {
            b'"' => return Some((bytes, after)),
            b'\n' => return None,
            b'\\' => {
                let (escape, after) = read_escape(after)?;
                bytes.extend(escape);
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
}

/// What stands behind a backslash, and the rest.
fn read_escape(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (&kind, rest) = text.split_first()?;
    let (digits, radix, len) = match kind {
        b'x' => (rest, 16, 2),
        b'u' => (rest, 16, 4),
        b'U' => (rest, 16, 8),
        b'0'..=b'7' => (text, 8, 3),
        _ => {
            let byte = match kind {
                b'a' => 0x07,
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                b'\\' | b'"' => kind,
                _ => return None,
            };
            return Some((vec![byte], rest));
        }
    };
    let number = std::str::from_utf8(digits.get(..len)?).ok().filter(|text| !text.starts_with('+'))?;
    let code = u32::from_str_radix(number, radix).ok()?;
    let bytes = match kind {
        b'u' | b'U' => char::from_u32(code)?.to_string().into_bytes(),
        _ => vec![u8::try_from(code).ok()?],
    };
    Some((bytes, &digits[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_go_quotes_them() {
        for (bytes, quoted) in [
            (&b"plain"[..], r#""plain""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\n\t\x00\x7f\x1b", r#""\n\t\x00\x7f\x1b""#),
            ("gr\u{fc}n \u{2028}\u{1f600}".as_bytes(), "\"gr\u{fc}n \\u2028\u{1f600}\""),
            (b"\xff\xfea", r#""\xff\xfea""#),
        ] {
            assert_eq!(go_quote(bytes), quoted);
            assert_eq!(unquote(quoted.as_bytes()), Some((bytes.to_vec(), &b""[..])));
        }
    }

    #[test]
    fn what_is_quoted_wrongly_is_not_read() {
        for text in [r#""open"#, r#""\q""#, r#""\x1""#, r#""\400""#, "\"a\nb\"", "plain", ""] {
            assert_eq!(unquote(text.as_bytes()), None, "{text}");
        }
        assert_eq!(unquote(br#""\101\u00e9" rest"#), Some(("A\u{e9}".as_bytes().to_vec(), &b" rest"[..])));
        assert_eq!(unquote(b"`raw \\n`"), Some((b"raw \\n".to_vec(), &b""[..])));
    }

    #[test]
    fn numbers_are_complained_about_as_go_does() {
        assert_eq!(parse_int(b"-1f", 16), Ok(-0x1f));
        assert_eq!(parse_int(b"zz", 16).unwrap_err(), r#"strconv.ParseInt: parsing "zz": invalid syntax"#);
        assert_eq!(
            parse_uint(b"fffffffffffffffff", 16).unwrap_err(),
            r#"strconv.ParseUint: parsing "fffffffffffffffff": value out of range"#
        );
        assert!(parse_uint(b"+1", 16).is_err());
    }
}
