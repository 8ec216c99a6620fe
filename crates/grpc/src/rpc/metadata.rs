//! What a call's headers say, read in one pass.
//!
//! Headers that mean nothing here are passed over, whatever bytes they hold.

use std::time::Duration;

use api::errors::{self, Code};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::status::Status;

/// The headers of a call that is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) timeout: Option<Duration>,
    /// The client would rather fail than wait on a member without a leader.
    pub(crate) wants_leader: bool,
    /// Messages may come gzip-compressed.
    pub(crate) gzip: bool,
    invalid_client_api_version: bool,
}

/// A request that is no gRPC call, or none we can read: how it is turned away before any service sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) http: StatusCode,
    pub(crate) status: Status,
}

impl Metadata {
    /// Reads the headers, by the rules and with the texts of grpc-go.
    ///
    /// # Errors
    /// How to turn the request away.
    pub(crate) fn read(method: &Method, headers: &HeaderMap) -> Result<Metadata, Refusal> {
        let mut metadata = Metadata::default();
        let mut content_type = None;
        let mut wrong_timeout = None;
        let mut unknown_encoding = None;
        for (name, value) in headers {
            match name.as_str() {
                "content-type" => content_type = Some(value),
                "grpc-timeout" => match parse_timeout(value) {
                    Ok(timeout) => metadata.timeout = Some(timeout),
                    Err(wrong) => wrong_timeout = Some(wrong),
                },
                "grpc-encoding" => match value.as_bytes() {
                    b"" | b"identity" => {}
                    b"gzip" => metadata.gzip = true,
                    _ => unknown_encoding = Some(value),
                },
                "hasleader" => metadata.wants_leader = value == "true",
                "client-api-version" => {
                    metadata.invalid_client_api_version = std::str::from_utf8(value.as_bytes()).is_err();
                }
                _ => {}
            }
        }
        if !content_type.is_some_and(is_grpc) {
            let given = quote(content_type.map_or(b"", HeaderValue::as_bytes));
            let text = format!("invalid gRPC request content-type {given}");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text));
        }
        if method != Method::POST {
            let text = format!("Received a HEADERS frame with :method {:?} which should be POST", method.as_str());
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text));
        }
        if let Some(wrong) = wrong_timeout {
            let text = format!("malformed grpc-timeout: {wrong}");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, Code::Internal, text));
        }
        if let Some(encoding) = unknown_encoding {
            let text = format!("grpc: Decompressor is not installed for grpc-encoding {}", quote(encoding.as_bytes()));
            return Err(Refusal::new(StatusCode::OK, Code::Unimplemented, text));
        }
        Ok(metadata)
    }

    /// Etcd's own check of the metadata, made when a service is about to act.
    ///
    /// # Errors
    /// [`errors::INVALID_CLIENT_API_VERSION`].
    pub(crate) fn check_api_version(&self) -> Result<(), Status> {
        match self.invalid_client_api_version {
            true => Err(errors::INVALID_CLIENT_API_VERSION.into()),
            false => Ok(()),
        }
    }
}

impl Refusal {
    fn new(http: StatusCode, code: Code, text: String) -> Refusal {
        Refusal { http, status: Status::new(code, text) }
    }
}

/// `application/grpc`, alone or followed by `+codec` or `;parameters`.
fn is_grpc(content_type: &HeaderValue) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let bytes = content_type.as_bytes();
    let (start, rest) = bytes.split_at(bytes.len().min(GRPC.len()));
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Reads the time a client gives us: up to eight digits and a unit.
fn parse_timeout(value: &HeaderValue) -> Result<Duration, String> {
    let bytes = value.as_bytes();
    let (digits, unit) = match bytes {
        [] | [_] => return Err(format!("transport: timeout string is too short: {}", quote(bytes))),
        _ if bytes.len() > 9 => return Err(format!("transport: timeout string is too long: {}", quote(bytes))),
        [digits @ .., unit] => (digits, unit),
    };
    let unit: fn(u64) -> Duration = match unit {
        b'H' => |number| Duration::from_secs(number * 60 * 60),
        b'M' => |number| Duration::from_secs(number * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {}", quote(bytes))),
    };
    let plain = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = plain.and_then(|digits| digits.parse().ok());
    number.map(unit).ok_or_else(|| format!("strconv.ParseUint: parsing {}: invalid syntax", quote(digits)))
}

/// The value in double quotes, as Go's `%q` shows it.
fn quote(value: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(headers: &[(&'static str, &[u8])]) -> Result<Metadata, Refusal> {
        let mut map = HeaderMap::new();
        map.insert("content-type", HeaderValue::from_static("application/grpc"));
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_bytes(value).unwrap());
        }
        Metadata::read(&Method::POST, &map)
    }

    fn timeout(text: &str) -> Result<Duration, String> {
        parse_timeout(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn every_unit_of_time_is_known() {
        let parsed = ["2H", "2M", "2S", "2m", "2u", "99999999n"].map(|text| timeout(text).unwrap());
        let nanoseconds = parsed.map(|duration| duration.as_nanos());
        assert_eq!(nanoseconds, [7_200_000_000_000, 120_000_000_000, 2_000_000_000, 2_000_000, 2_000, 99_999_999]);
        assert_eq!(timeout("99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for (text, wrong) in [
            ("1", "too short"),
            ("123456789S", "too long"),
            ("12x", "unit is not recognized"),
            ("+1S", "parsing \"+1\": invalid syntax"),
            ("-1S", "invalid syntax"),
            ("1.5S", "invalid syntax"),
        ] {
            assert!(timeout(text).unwrap_err().contains(wrong), "{text}");
        }
        let refusal = read(&[("grpc-timeout", b"5")]).unwrap_err();
        assert_eq!((refusal.http, refusal.status.code), (StatusCode::BAD_REQUEST, Code::Internal));
    }

    #[test]
    fn content_types_are_held_to_grpc() {
        for good in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x", "Application/GRPC"] {
            assert!(read(&[("content-type", good.as_bytes())]).is_ok(), "{good}");
        }
        for bad in ["application/json", "application/grpcx", "application/grp", ""] {
            let refusal = read(&[("content-type", bad.as_bytes())]).unwrap_err();
            assert_eq!(refusal.http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{bad}");
            assert_eq!(refusal.status.text, format!("invalid gRPC request content-type {bad:?}"));
        }
    }

    #[test]
    fn etcds_own_keys_are_read() {
        assert!(read(&[("hasleader", b"true")]).unwrap().wants_leader);
        assert!(!read(&[("hasleader", b"yes")]).unwrap().wants_leader);
        assert_eq!(read(&[("client-api-version", b"3.5")]).unwrap().check_api_version(), Ok(()));
        let wrong = read(&[("client-api-version", b"\xff")]).unwrap().check_api_version();
        assert_eq!(wrong, Err(errors::INVALID_CLIENT_API_VERSION.into()));
    }

    #[test]
    fn encodings_we_cannot_undo_are_refused_by_name() {
        assert!(read(&[("grpc-encoding", b"gzip")]).unwrap().gzip);
        assert!(!read(&[("grpc-encoding", b"identity")]).unwrap().gzip);
        let refusal = read(&[("grpc-encoding", b"deflate")]).unwrap_err();
        assert_eq!(refusal.status.code, Code::Unimplemented);
        assert_eq!(refusal.status.text, "grpc: Decompressor is not installed for grpc-encoding \"deflate\"");
    }

    proptest! {
        #[test]
        fn no_header_value_panics(value in prop::collection::vec(prop_oneof![0x20u8..0x7f, 0x80u8..=0xff], 0..20)) {
            for name in ["content-type", "grpc-timeout", "grpc-encoding", "hasleader", "client-api-version", "x"] {
                let _ = read(&[(name, &value)]);
            }
        }
    }
}
