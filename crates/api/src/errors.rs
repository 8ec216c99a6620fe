//! The errors clients see: gRPC code and exact text, as etcd 3.5 sends them.
//!
//! Clients compare the texts, so they are written down once, here, and front ends take them from here. Every constant
//! is in [`ALL`], and a test holds that list against a checked-in copy of etcd's table.
//!
//! Where 3.5 and 3.6 send the same text with different codes, the code is 3.5's. `UNKNOWN` rows that look like mistakes
//! are etcd's: those errors leave its server unmapped.

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The code with this number; numbers nobody defined count as `Unknown`, as every gRPC library has it.
    pub fn from_number(number: usize) -> Code {
        const CODES: [Code; 17] = [
            Code::Ok,
            Code::Cancelled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
            Code::Unauthenticated,
        ];
        CODES.get(number).copied().unwrap_or(Code::Unknown)
    }

    /// The name grpc-go prints inside texts such as `rpc error: code = NotFound desc = ...`.
    pub fn go_name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        }
    }
}

/// One error as it goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    pub code: Code,
    pub text: &'static str,
}

macro_rules! errors {
    ($($name:ident: $code:ident, $text:literal;)*) => {
        $(pub const $name: WireError = WireError { code: Code::$code, text: $text };)*

        /// Every error of this module.
        pub const ALL: &[WireError] = &[$($name),*];
    };
}

errors! {
    // KV.
    EMPTY_KEY: InvalidArgument, "etcdserver: key is not provided";
    KEY_NOT_FOUND: InvalidArgument, "etcdserver: key not found";
    VALUE_PROVIDED: InvalidArgument, "etcdserver: value is provided";
    LEASE_PROVIDED: InvalidArgument, "etcdserver: lease is provided";
    TOO_MANY_OPS: InvalidArgument, "etcdserver: too many operations in txn request";
    DUPLICATE_KEY: InvalidArgument, "etcdserver: duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION: InvalidArgument, "etcdserver: invalid client api version";
    INVALID_SORT_OPTION: InvalidArgument, "etcdserver: invalid sort option";
    REQUEST_TOO_LARGE: InvalidArgument, "etcdserver: request is too large";
    COMPACTED: OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REVISION: OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    NO_SPACE: ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    RANGE_STREAM_SORT: Unimplemented, "RangeStream does not support custom sort orders";
    RANGE_STREAM_FILTER: Unimplemented, "RangeStream does not support revision filters";

    // Watch.
    WATCH_CANCELLED: Cancelled, "etcdserver: watch canceled";

    // Lease.
    LEASE_NOT_FOUND: NotFound, "etcdserver: requested lease not found";
    LEASE_EXISTS: FailedPrecondition, "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE: OutOfRange, "etcdserver: too large lease TTL";
    NOT_PRIMARY_LESSOR: Unknown, "not a primary lessor";

    // Cluster.
    MEMBER_EXISTS: FailedPrecondition, "etcdserver: member ID already exist";
    PEER_URL_EXISTS: FailedPrecondition, "etcdserver: Peer URLs already exists";
    NOT_ENOUGH_STARTED_MEMBERS: Unknown, "etcdserver: re-configuration failed due to not enough started members";
    BAD_MEMBER_URLS: InvalidArgument, "etcdserver: given member URLs are invalid";
    MEMBER_NOT_FOUND: NotFound, "etcdserver: member not found";
    MEMBER_NOT_LEARNER: FailedPrecondition, "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY: FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS: FailedPrecondition, "etcdserver: too many learner members in cluster";
    UNHEALTHY_CLUSTER: Unavailable, "etcdserver: unhealthy cluster";
    CLUSTER_ID_MISMATCH: FailedPrecondition, "etcdserver: cluster ID mismatch";
    NOT_SUPPORTED_FOR_LEARNER: Unavailable, "etcdserver: rpc not supported for learner";

    // Auth.
    ROOT_USER_NOT_EXIST: FailedPrecondition, "etcdserver: root user does not exist";
    ROOT_ROLE_NOT_EXIST: FailedPrecondition, "etcdserver: root user does not have root role";
    USER_EXISTS: FailedPrecondition, "etcdserver: user name already exists";
    USER_EMPTY: InvalidArgument, "etcdserver: user name is empty";
    USER_NOT_FOUND: FailedPrecondition, "etcdserver: user name not found";
    ROLE_EXISTS: FailedPrecondition, "etcdserver: role name already exists";
    ROLE_NOT_FOUND: FailedPrecondition, "etcdserver: role name not found";
    ROLE_EMPTY: InvalidArgument, "etcdserver: role name is empty";
    AUTH_FAILED: InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    PASSWORD_FOR_NO_PASSWORD_USER: Unknown, "auth: authentication failed, password was given for no password user";
    PERMISSION_NOT_GIVEN: InvalidArgument, "etcdserver: permission not given";
    PERMISSION_DENIED: PermissionDenied, "etcdserver: permission denied";
    ROLE_NOT_GRANTED: FailedPrecondition, "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED: FailedPrecondition, "etcdserver: permission is not granted to the role";
    AUTH_NOT_ENABLED: FailedPrecondition, "etcdserver: authentication is not enabled";
    INVALID_AUTH_TOKEN: Unauthenticated, "etcdserver: invalid auth token";
    INVALID_AUTH_MANAGEMENT: InvalidArgument, "etcdserver: invalid auth management";
    AUTH_OLD_REVISION: InvalidArgument, "etcdserver: revision of auth store is old";
    VERIFY_ONLY_KEY: Unknown, "auth: token signing attempted with verify-only key";

    // Maintenance and general.
    NO_LEADER: Unavailable, "etcdserver: no leader";
    NOT_LEADER: FailedPrecondition, "etcdserver: not leader";
    BAD_LEADER_TRANSFEREE: FailedPrecondition, "etcdserver: bad leader transferee";
    TIMEOUT_LEADER_TRANSFER: Unknown, "etcdserver: request timed out, leader transfer took too long";
    LEADER_CHANGED: Unavailable, "etcdserver: leader changed";
    NOT_CAPABLE: Unavailable, "etcdserver: not capable";
    STOPPED: Unavailable, "etcdserver: server stopped";
    TIMEOUT: Unavailable, "etcdserver: request timed out";
    TIMEOUT_LEADER_FAILURE: Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    TIMEOUT_CONNECTION_LOST: Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    TIMEOUT_APPLIED_INDEX: Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    CORRUPT: DataLoss, "etcdserver: corrupt cluster";
    TOO_MANY_REQUESTS: Unknown, "etcdserver: too many requests";
    REQUEST_CANCELED: Cancelled, "etcdserver: request canceled";
    REQUEST_DEADLINE_EXCEEDED: DeadlineExceeded, "etcdserver: context deadline exceeded";
    WRONG_DOWNGRADE_VERSION_FORMAT: InvalidArgument, "etcdserver: wrong downgrade target version format";
    INVALID_DOWNGRADE_TARGET: InvalidArgument, "etcdserver: invalid downgrade target version";
    CLUSTER_VERSION_UNAVAILABLE: Unavailable, "etcdserver: cluster version not found during downgrade";
    DOWNGRADE_IN_PROGRESS: FailedPrecondition, "etcdserver: cluster has a downgrade job in progress";
    NO_INFLIGHT_DOWNGRADE: FailedPrecondition, "etcdserver: no inflight downgrade job";
    UNKNOWN_DOWNGRADE_ACTION: Unknown, "etcdserver: unknown method";

    // Lock and Election: they act as a client of their own server, and what failed there loses its code.
    LOCK_LEASE_NOT_FOUND: Unknown, "etcdserver: requested lease not found";
    LOCK_EMPTY_KEY: Unknown, "etcdserver: key is not provided";
    SESSION_EXPIRED: Unknown, "mutex: session is expired";
    ELECTION_NOT_LEADER: Unknown, "election: not leader";
    ELECTION_NO_LEADER: Unknown, "election: no leader";
    LEADER_KEY_MISSING: Unknown, "\"leader\" field must be provided";

    // What the gRPC runtime itself says, where the text is fixed.
    CONTEXT_CANCELED: Cancelled, "context canceled";
    CONTEXT_DEADLINE_EXCEEDED: DeadlineExceeded, "context deadline exceeded";
    UNKNOWN_HEALTH_SERVICE: NotFound, "unknown service";
}

/// Reasons a watch response gives for a watch that ended. Not statuses: the stream lives on.
pub mod watch_cancel {
    pub const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    pub const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    pub const COMPACTED: &str = super::COMPACTED.text;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The rows of etcd's own tables (code name, tab, text), 3.5's where releases differ.
    const ETCD: &str = include_str!("errors.txt");

    #[test]
    fn every_row_of_etcds_table_is_here_and_nothing_else() {
        let ours: BTreeSet<String> = ALL.iter().map(|error| format!("{:?}\t{}", error.code, error.text)).collect();
        let etcds: BTreeSet<String> = ETCD.lines().map(str::to_owned).collect();
        assert_eq!(ours, etcds);
        assert_eq!(ALL.len(), ours.len(), "an error stands here twice");
    }
}
