//! How a call ended.

use std::fmt;

pub use api::errors::Code;
use http::HeaderMap;

/// Why a call failed: what the server said, or what happened to the connection (see [`Status::is_transport`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: String,
}

/// Begins the message of every status that this client made up itself.
const TRANSPORT: &str = "transport: ";

impl Status {
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }

    /// The call was not answered: the connection could not be made, broke, or spoke something else than gRPC. Whether
    /// the server carried the request out is unknown.
    pub fn is_transport(&self) -> bool {
        self.message.starts_with(TRANSPORT)
    }

    pub(crate) fn transport(cause: impl fmt::Display) -> Status {
        Status::new(Code::Unavailable, format!("{TRANSPORT}{cause}"))
    }

    /// The status in headers or trailers: `None` if there is none, `Some(Ok)` for success.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Result<(), Status>> {
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok());
        let code = code.map_or(Code::Unknown, Code::from_number);
        if code == Code::Ok {
            return Some(Ok(()));
        }
        let message = headers.get("grpc-message").map_or_else(String::new, |value| percent_decoded(value.as_bytes()));
        Some(Err(Status { code, message }))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// Undoes the percent-encoding of `grpc-message`; a `%` that begins no escape stands for itself.
fn percent_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_percent_decoded() {
        assert_eq!(percent_decoded(b"a%20b%e2%82%ac"), "a b\u{20ac}");
        assert_eq!(percent_decoded(b"100% %zz %4"), "100% %zz %4");
    }

    #[test]
    fn status_comes_from_trailers() {
        let mut headers = HeaderMap::new();
        assert_eq!(Status::from_headers(&headers), None);
        headers.insert("grpc-status", http::HeaderValue::from_static("0"));
        assert_eq!(Status::from_headers(&headers), Some(Ok(())));
        headers.insert("grpc-status", http::HeaderValue::from_static("11"));
        headers.insert("grpc-message", http::HeaderValue::from_static("too%3A far"));
        assert_eq!(Status::from_headers(&headers), Some(Err(Status::new(Code::OutOfRange, "too: far"))));
        headers.insert("grpc-status", http::HeaderValue::from_static("77"));
        assert_eq!(Status::from_headers(&headers).and_then(Result::err).map(|s| s.code), Some(Code::Unknown));
    }
}
