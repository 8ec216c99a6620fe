//! Where a JSON value ends in text that comes piece by piece.

use memchr::memchr2;

use crate::Wrong;

/// As deep as Go's decoder goes.
const DEPTH_MAX: usize = 10_000;

/// Looks for the end of one object. What it finds may still be no JSON.
#[derive(Debug, Default)]
pub struct ValueEnd {
    /// How far it has looked.
    at: usize,
    depth: usize,
    in_string: bool,
}

impl ValueEnd {
    /// Looks at `text`, which is all that came since the last end, and goes on where it stopped before. Returns where
    /// the object begins and ends once it has ended.
    ///
    /// # Errors
    /// The text begins with something else than an object, or is nested beyond any use.
    pub fn find(&mut self, text: &[u8]) -> Result<Option<usize>, Wrong> {
        while let Some(&byte) = text.get(self.at) {
            if self.in_string {
                let Some(found) = memchr2(b'"', b'\\', &text[self.at..]) else {
                    self.at = text.len();
                    break;
                };
                self.at += found;
                if text[self.at] == b'"' {
                    self.in_string = false;
                    self.at += 1;
                } else if self.at + 1 < text.len() {
                    self.at += 2;
                } else {
                    // What the backslash is for has not come.
                    break;
                }
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {}
                b'{' | b'[' if self.depth == DEPTH_MAX => {
                    return Err(Wrong::Text(format!("invalid character '{}' exceeded max depth", char::from(byte))));
                }
                b'{' => self.depth += 1,
                _ if self.depth == 0 => return Err(no_object(byte)),
                b'[' => self.depth += 1,
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.at += 1;
                        return Ok(Some(std::mem::take(self).at));
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok(None)
    }

    /// Whether an object has begun.
    pub fn has_begun(&self) -> bool {
        self.depth > 0
    }
}

/// What is said of text that begins with `byte`.
fn no_object(byte: u8) -> Wrong {
    let shown = char::from(byte);
    Wrong::Text(match byte {
        b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            format!("proto: syntax error (line 1:1): unexpected token {shown}")
        }
        b'\'' | b'\\' => format!("invalid character '\\{shown}' looking for beginning of value"),
        _ => format!("invalid character '{shown}' looking for beginning of value"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn end(text: &str) -> Option<usize> {
        ValueEnd::default().find(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_object_ends_with_its_brace() {
        assert_eq!(end("{}"), Some(2));
        assert_eq!(end(" \n{\"a\":[{}, \"}\"]} {"), Some(17));
        assert_eq!(end(r#"{"\"}":"\\"}x"#), Some(12));
        for unfinished in ["", "  ", "{", "{\"}", r#"{"\"#, r#"{"\"}"#, "{[}"] {
            assert_eq!(end(unfinished), None, "{unfinished}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_at_once() {
        for (text, wrong) in [
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("  ]", "invalid character ']' looking for beginning of value"),
            ("\u{feff}{}", "invalid character 'ï' looking for beginning of value"),
            ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        ] {
            assert_eq!(ValueEnd::default().find(text.as_bytes()), Err(Wrong::Text(wrong.into())), "{text}");
        }
        let deep = "{\"a\":".to_owned() + &"[".repeat(DEPTH_MAX);
        let wrong = Wrong::Text("invalid character '[' exceeded max depth".into());
        assert_eq!(ValueEnd::default().find(deep.as_bytes()), Err(wrong));
        assert_eq!(end(&deep[..deep.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_text_is_cut(text in r#"\{["\\a{}\[\]:, ]{0,30}\}"#, cuts in prop::collection::vec(0..32usize, 0..5)) {
            let whole = ValueEnd::default().find(text.as_bytes());
            let mut pieces = ValueEnd::default();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let found = cuts.into_iter().find_map(|cut| match pieces.find(&text.as_bytes()[..cut]) {
                Ok(None) => None,
                found => Some(found),
            });
            prop_assert_eq!(found.unwrap_or(Ok(None)), whole);
        }
    }
}
