//! Text and bytes in double quotes, as Go's `%q` shows them: etcd's messages and outputs are full of them.

use std::fmt::Write as _;

/// Quotes bytes: what is no UTF-8, and what cannot be seen, as escapes.
///
/// Source: Go's `strconv.Quote`.
pub fn go_quote(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|symbol| push(&mut quoted, symbol));
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

fn push(quoted: &mut String, symbol: char) {
    let code = u32::from(symbol);
    let _ = match symbol {
        '"' => quoted.write_str("\\\""),
        '\\' => quoted.write_str("\\\\"),
        '\x07' => quoted.write_str("\\a"),
        '\x08' => quoted.write_str("\\b"),
        '\x0c' => quoted.write_str("\\f"),
        '\n' => quoted.write_str("\\n"),
        '\r' => quoted.write_str("\\r"),
        '\t' => quoted.write_str("\\t"),
        '\x0b' => quoted.write_str("\\v"),
        ' '..='~' => quoted.write_char(symbol),
        '\0'..='\x7f' => write!(quoted, "\\x{code:02x}"),
        _ if is_shown(symbol) => quoted.write_char(symbol),
        '\0'..='\u{ffff}' => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
}

/// Whether a symbol past ASCII can be seen: it is assigned, and no control, no space, no mark of direction, nothing
/// private. The standard library has Go's table, but shows it only by what it escapes; behind a letter, as a mark that
/// joins what stands before it is escaped at the beginning of a text alone.
fn is_shown(symbol: char) -> bool {
    let mut buffer = [b'a'; 5];
    let len = 1 + symbol.encode_utf8(&mut buffer[1..]).len();
    let text = std::str::from_utf8(&buffer[..len]).expect("a letter and a symbol are UTF-8");
    text.escape_debug().eq(text.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's `strconv.Quote` makes of texts, a line each: the bytes in hexadecimal, and the quoted text. The first
    /// are chosen, the others random, from all of Unicode's categories but the unassigned.
    const SAMPLES: &str = include_str!("go_quote_samples.txt");

    #[test]
    fn bytes_are_quoted_as_go_quotes_them() {
        assert_eq!(SAMPLES.lines().count(), 222);
        for line in SAMPLES.lines() {
            let (hex, quoted) = line.split_once(' ').expect("a line has two parts");
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("it is hexadecimal");
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            assert_eq!(go_quote(bytes), quoted, "{hex}");
        }
    }

    #[test]
    fn what_is_not_assigned_is_not_shown() {
        assert_eq!(go_quote("\u{378}\u{2a6e0}\u{ffff}\u{10ffff}"), r#""\u0378\U0002a6e0\uffff\U0010ffff""#);
    }
}
