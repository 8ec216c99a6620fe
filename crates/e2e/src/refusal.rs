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
