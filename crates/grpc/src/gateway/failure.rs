//! How a failed call is answered.
//!
//! The bodies have the fields of either version of grpc-gateway: etcd 3.5 has `error` beside `message`, and other names
//! in streams, than 3.6; clients of each read what theirs had.

use api::errors::Code;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::status::Status;

/// The answer to a failed call that was to have one answer.
pub(super) fn plain(status: &Status) -> Response<Full<Bytes>> {
    answer(status, plain_json(status))
}

/// The answer to a failed call that was to have many.
pub(super) fn streamed(status: &Status) -> Response<Full<Bytes>> {
    answer(status, stream_line(status))
}

pub(super) fn plain_json(status: &Status) -> Vec<u8> {
    let (mut body, code) = (Vec::new(), status.code as u16);
    body.extend_from_slice(b"{\"error\":");
    json::write_string(&status.text, &mut body);
    body.extend_from_slice(format!(",\"code\":{code},\"message\":").as_bytes());
    json::write_string(&status.text, &mut body);
    body.push(b'}');
    body
}

/// The last line of a stream that fails.
pub(super) fn stream_line(status: &Status) -> Vec<u8> {
    let (http, code) = (http_status(status.code), status.code as u16);
    let mut line =
        format!("{{\"error\":{{\"grpc_code\":{code},\"http_code\":{},\"message\":", http.as_u16()).into_bytes();
    json::write_string(&status.text, &mut line);
    let reason = http.canonical_reason().unwrap_or_default();
    line.extend_from_slice(format!(",\"http_status\":\"{reason}\",\"code\":{code}}}}}\n").as_bytes());
    line
}

pub(super) fn not_found() -> Status {
    Status::new(Code::NotFound, "Not Found")
}

pub(super) fn method_not_allowed() -> Status {
    Status::new(Code::Unimplemented, "Method Not Allowed")
}

/// The answer could not be made to its end, or not be translated.
pub(super) fn broken_off() -> Status {
    Status::new(Code::Internal, "quorate: the answer cannot be put together")
}

fn answer(status: &Status, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = http_status(status.code);
    answer.headers_mut().insert(CONTENT_TYPE, super::JSON);
    answer
}

/// Source: grpc-ecosystem/grpc-gateway `runtime/errors.go`.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_version_of_the_gateway_is_understood() {
        let status = Status::new(Code::Unavailable, "a \"b\"");
        let plain = r#"{"error":"a \"b\"","code":14,"message":"a \"b\""}"#;
        assert_eq!(String::from_utf8(plain_json(&status)).unwrap(), plain);
        let streamed = r#"{"error":{"grpc_code":14,"http_code":503,"message":"a \"b\"","http_status":"Service Unavailable","code":14}}"#;
        assert_eq!(String::from_utf8(stream_line(&status)).unwrap(), format!("{streamed}\n"));
        assert_eq!(http_status(Code::Cancelled).as_u16(), 499);
    }
}
