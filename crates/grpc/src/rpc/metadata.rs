//! What a call's headers say, read in one pass.
//!
//! Headers that mean nothing here are passed over, whatever bytes they hold.

use std::time::Duration;

use api::errors::{self, Code};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use types::go_quote;

use crate::status::Status;

/// The headers of a call that is one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) timeout: Option<Duration>,
    /// The client would rather fail than wait on a member without a leader.
    pub(crate) wants_leader: bool,
    /// Messages may come gzip-compressed.
    pub(crate) gzip: bool,
    pub(crate) client_version: ClientVersion,
}

/// Which version of the API a client says to speak.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientVersion {
    #[default]
    Unsaid,
    /// 3 and this, which is below [`ClientVersion::MINORS`]: what etcd's clients say.
    Three(u8),
    Other(HeaderValue),
}

impl ClientVersion {
    pub(crate) const MINORS: usize = 30;

    fn read(value: &HeaderValue) -> ClientVersion {
        match *value.as_bytes() {
            [b'3', b'.', digit @ b'0'..=b'9'] => ClientVersion::Three(digit - b'0'),
            [b'3', b'.', tens @ b'1'..=b'2', digit @ b'0'..=b'9'] => {
                ClientVersion::Three((tens - b'0') * 10 + digit - b'0')
            }
            _ => ClientVersion::Other(value.clone()),
        }
    }
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
                "client-api-version" => metadata.client_version = ClientVersion::read(value),
                _ => {}
            }
        }
        if !content_type.is_some_and(is_grpc) {
            let given = go_quote(content_type.map_or(&b""[..], HeaderValue::as_bytes));
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
            let text =
                format!("grpc: Decompressor is not installed for grpc-encoding {}", go_quote(encoding.as_bytes()));
            return Err(Refusal::new(StatusCode::OK, Code::Unimplemented, text));
        }
        Ok(metadata)
    }

    /// Reads the headers of a plain HTTP request that stands for a call: `Grpc-Metadata-` begins the names of those that
    /// are meant for the service.
    ///
    /// # Errors
    /// Its timeout is none.
    ///
    /// Source: grpc-ecosystem/grpc-gateway `runtime/context.go`.
    pub(crate) fn read_plain(headers: &HeaderMap) -> Result<Metadata, Status> {
        let mut metadata = Metadata::default();
        for (name, value) in headers {
            match name.as_str() {
                "grpc-timeout" => {
                    let timeout = parse_timeout(value).map_err(|_| {
                        let given = String::from_utf8_lossy(value.as_bytes());
                        Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {given}"))
                    })?;
                    metadata.timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
                }
                "grpc-metadata-hasleader" => metadata.wants_leader = value == "true",
                _ => {}
            }
        }
        Ok(metadata)
    }

    /// Etcd's own check of the metadata, made when a service is about to act.
    ///
    /// # Errors
    /// [`errors::INVALID_CLIENT_API_VERSION`].
    pub(crate) fn check_api_version(&self) -> Result<(), Status> {
        match &self.client_version {
            ClientVersion::Other(version) if std::str::from_utf8(version.as_bytes()).is_err() => {
                Err(errors::INVALID_CLIENT_API_VERSION.into())
            }
            _ => Ok(()),
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
        [] | [_] => return Err(format!("transport: timeout string is too short: {}", go_quote(bytes))),
        _ if bytes.len() > 9 => return Err(format!("transport: timeout string is too long: {}", go_quote(bytes))),
        [digits @ .., unit] => (digits, unit),
    };
    let unit: fn(u64) -> Duration = match unit {
        b'H' => |number| Duration::from_secs(number * 60 * 60),
        b'M' => |number| Duration::from_secs(number * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {}", go_quote(bytes))),
    };
    let plain = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = plain.and_then(|digits| digits.parse().ok());
    number.map(unit).ok_or_else(|| format!("strconv.ParseUint: parsing {}: invalid syntax", go_quote(digits)))
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
        let refusal = read(&[("grpc-timeout", b"\xff'S")]).unwrap_err();
        assert_eq!(
            refusal.status.text,
            r#"malformed grpc-timeout: strconv.ParseUint: parsing "\xff'": invalid syntax"#
        );
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
    fn versions_of_etcds_clients_are_numbers() {
        let version = |text: &str| read(&[("client-api-version", text.as_bytes())]).unwrap().client_version;
        for minor in 0..ClientVersion::MINORS {
            assert_eq!(version(&format!("3.{minor}")), ClientVersion::Three(minor as u8));
        }
        for other in ["", "3", "3.", "3.05", "3.30", "3.a", "3.5.1", "2.5"] {
            assert_eq!(version(other), ClientVersion::Other(HeaderValue::from_str(other).unwrap()));
        }
        assert_eq!(read(&[]).unwrap().client_version, ClientVersion::Unsaid);
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
