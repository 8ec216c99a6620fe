//! What a call ends with if it fails: a gRPC code and a text.

use std::borrow::Cow;
use std::fmt;

use api::errors::{self, Code, WireError};
use http::{HeaderMap, HeaderValue};
use machine::{ApplyError, RequestError};
use membership::MembershipError;
use server::Error;

/// The end of a failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) text: Cow<'static, str>,
}

impl Status {
    pub(crate) fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Status {
        Status { code, text: text.into() }
    }

    /// Adds `grpc-status` and `grpc-message`.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if !self.text.is_empty() {
            headers.insert("grpc-message", percent_encode(&self.text));
        }
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Status {
        Status::new(error.code, error.text)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let wire = match error {
            Error::Request(error) => request(error),
            Error::Apply(error) => return apply(&error),
            Error::RequestTooLarge => errors::REQUEST_TOO_LARGE,
            Error::NoSpace => errors::NO_SPACE,
            Error::TooManyRequests => errors::TOO_MANY_REQUESTS,
            Error::NoLeader => errors::NO_LEADER,
            Error::NotLeader => errors::NOT_LEADER,
            Error::BadLeaderTransferee => errors::BAD_LEADER_TRANSFEREE,
            Error::TransferTimeout => errors::TIMEOUT_LEADER_TRANSFER,
            Error::BadMemberUrls => errors::BAD_MEMBER_URLS,
            Error::NotEnoughStarted => errors::NOT_ENOUGH_STARTED_MEMBERS,
            Error::UnhealthyCluster => errors::UNHEALTHY_CLUSTER,
            Error::LearnerNotReady => errors::LEARNER_NOT_READY,
            Error::Timeout => errors::TIMEOUT,
            Error::TimeoutLeaderFailure => errors::TIMEOUT_LEADER_FAILURE,
            Error::Stopped => errors::STOPPED,
            Error::Unsupported(feature) => return unsupported(feature),
            Error::Internal(what) => return Status::new(Code::Unknown, what),
        };
        wire.into()
    }
}

fn request(error: RequestError) -> WireError {
    match error {
        RequestError::EmptyKey => errors::EMPTY_KEY,
        RequestError::EmptyOperation => errors::KEY_NOT_FOUND,
        RequestError::ValueProvided => errors::VALUE_PROVIDED,
        RequestError::LeaseProvided => errors::LEASE_PROVIDED,
        RequestError::TooManyOps | RequestError::TxnTooDeep => errors::TOO_MANY_OPS,
        RequestError::DuplicateKey => errors::DUPLICATE_KEY,
        RequestError::InvalidSortOption => errors::INVALID_SORT_OPTION,
    }
}

fn apply(error: &ApplyError) -> Status {
    let wire = match error {
        ApplyError::Request(error) => request(*error),
        ApplyError::KeyNotFound => errors::KEY_NOT_FOUND,
        ApplyError::LeaseNotFound => errors::LEASE_NOT_FOUND,
        ApplyError::LeaseExists => errors::LEASE_EXISTS,
        ApplyError::LeaseTtlTooLarge => errors::LEASE_TTL_TOO_LARGE,
        ApplyError::Compacted => errors::COMPACTED,
        ApplyError::FutureRevision => errors::FUTURE_REVISION,
        ApplyError::NoSpace => errors::NO_SPACE,
        ApplyError::Corrupt => errors::CORRUPT,
        ApplyError::Membership(error) => membership(error),
        ApplyError::Unsupported(feature) => return unsupported(feature),
        ApplyError::InvalidVersion(_) | ApplyError::Undecodable(_) => {
            return Status::new(Code::Unknown, error.to_string());
        }
    };
    wire.into()
}

fn membership(error: &MembershipError) -> WireError {
    match error {
        MembershipError::IdRemoved | MembershipError::IdNotFound => errors::MEMBER_NOT_FOUND,
        MembershipError::IdExists => errors::MEMBER_EXISTS,
        MembershipError::PeerUrlExists => errors::PEER_URL_EXISTS,
        MembershipError::NotLearner => errors::MEMBER_NOT_LEARNER,
        MembershipError::TooManyLearners => errors::TOO_MANY_LEARNERS,
        MembershipError::OnlyVoter => errors::NOT_ENOUGH_STARTED_MEMBERS,
    }
}

fn unsupported(feature: &str) -> Status {
    Status::new(Code::Unimplemented, format!("quorate: {feature} is not implemented yet"))
}

/// As grpc-go prints a status, which is what watch responses carry as their cancel reason.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code.go_name(), self.text)
    }
}

/// The text as a header value: printable ASCII stays, `%` and all else become `%XX` per byte of UTF-8.
///
/// Source: gRPC over HTTP/2, "Percent-Byte-Unencoded".
fn percent_encode(text: &str) -> HeaderValue {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    if text.bytes().all(plain) {
        return HeaderValue::from_str(text).expect("printable ASCII is a header value");
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::from_str(&encoded).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_percent_encoded_as_grpc_wants() {
        assert_eq!(percent_encode("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(percent_encode("100% of\n\u{fc}"), "100%25 of%0A%C3%BC");
    }

    #[test]
    fn a_status_prints_as_grpc_go_prints_it() {
        let status = Status::from(api::errors::PERMISSION_DENIED);
        assert_eq!(status.to_string(), "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    }

    proptest! {
        #[test]
        fn every_text_makes_a_header_value(text in any::<String>()) {
            let decoded = percent_decode(percent_encode(&text).to_str().unwrap());
            prop_assert_eq!(decoded, text);
        }
    }

    fn percent_decode(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    }
}
