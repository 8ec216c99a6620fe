//! Headers that requests and answers between members carry.

use http::{HeaderMap, HeaderName, HeaderValue, request};
use types::{ClusterId, MemberId};

use crate::settings::Settings;
use crate::version::MIN_CLUSTER_VERSION;

pub(crate) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(crate) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(crate) const MIN_CLUSTER: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(crate) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(crate) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
pub(crate) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");

pub(crate) const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");
pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What every raft request says of its sender.
pub(crate) fn identify(request: request::Builder, settings: &Settings) -> request::Builder {
    request
        .header(SERVER_FROM, settings.member.to_string())
        .header(SERVER_VERSION, settings.version.as_str())
        .header(MIN_CLUSTER, MIN_CLUSTER_VERSION)
        .header(CLUSTER_ID, settings.cluster.to_string())
        .header(PEER_URLS, settings.peer_urls.join(","))
}

/// A header's text; absent if it is none.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A member's id as it stands in headers and paths.
pub(crate) fn parse_member(text: &str) -> Option<MemberId> {
    parse_hex(text).map(MemberId)
}

pub(crate) fn cluster(headers: &HeaderMap) -> Option<ClusterId> {
    parse_hex(text(headers, &CLUSTER_ID)?).map(ClusterId)
}

fn parse_hex(text: &str) -> Option<u64> {
    // The standard library would take a sign.
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}
