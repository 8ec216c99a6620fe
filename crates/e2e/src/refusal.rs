//! The errors clients see: gRPC code and exact text, which clients compare.

use testkit::grpc::Code;

/// A code and its text.
pub type Refusal = (Code, &'static str);

pub const EMPTY_KEY: Refusal = (Code::InvalidArgument, "etcdserver: key is not provided");
pub const KEY_NOT_FOUND: Refusal = (Code::InvalidArgument, "etcdserver: key not found");
pub const VALUE_PROVIDED: Refusal = (Code::InvalidArgument, "etcdserver: value is provided");
pub const LEASE_PROVIDED: Refusal = (Code::InvalidArgument, "etcdserver: lease is provided");
pub const TOO_MANY_OPS: Refusal = (Code::InvalidArgument, "etcdserver: too many operations in txn request");
pub const DUPLICATE_KEY: Refusal = (Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
pub const INVALID_SORT_OPTION: Refusal = (Code::InvalidArgument, "etcdserver: invalid sort option");
pub const REQUEST_TOO_LARGE: Refusal = (Code::InvalidArgument, "etcdserver: request is too large");
pub const COMPACTED: Refusal = (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
pub const FUTURE_REVISION: Refusal = (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
pub const NO_SPACE: Refusal = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
pub const LEASE_NOT_FOUND: Refusal = (Code::NotFound, "etcdserver: requested lease not found");
pub const LEASE_EXISTS: Refusal = (Code::FailedPrecondition, "etcdserver: lease already exists");
pub const LEASE_TTL_TOO_LARGE: Refusal = (Code::OutOfRange, "etcdserver: too large lease TTL");
pub const BAD_LEADER_TRANSFEREE: Refusal = (Code::FailedPrecondition, "etcdserver: bad leader transferee");
pub const NOT_LEADER: Refusal = (Code::FailedPrecondition, "etcdserver: not leader");
pub const NO_LEADER: Refusal = (Code::Unavailable, "etcdserver: no leader");
pub const LEADER_CHANGED: Refusal = (Code::Unavailable, "etcdserver: leader changed");
/// Begins the texts of all requests that took too long.
pub const TIMED_OUT: Refusal = (Code::Unavailable, "etcdserver: request timed out");
pub const UNHEALTHY_CLUSTER: Refusal = (Code::Unavailable, "etcdserver: unhealthy cluster");
pub const NOT_ENOUGH_STARTED: Refusal =
    (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members");
pub const MEMBER_NOT_FOUND: Refusal = (Code::NotFound, "etcdserver: member not found");
pub const PEER_URL_EXISTS: Refusal = (Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
pub const BAD_MEMBER_URLS: Refusal = (Code::InvalidArgument, "etcdserver: given member URLs are invalid");
pub const NOT_A_LEARNER: Refusal = (Code::FailedPrecondition, "etcdserver: can only promote a learner member");
pub const LEARNER_NOT_READY: Refusal =
    (Code::FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader");
pub const TOO_MANY_LEARNERS: Refusal = (Code::FailedPrecondition, "etcdserver: too many learner members in cluster");
pub const CORRUPT: Refusal = (Code::DataLoss, "etcdserver: corrupt cluster");
pub const NOT_FOR_LEARNERS: Refusal = (Code::Unavailable, "etcdserver: rpc not supported for learner");
