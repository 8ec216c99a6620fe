//! What applied requests were and did, for metrics. No part of the state.

use api::etcdserverpb::internal_raft_request::Request;
use mvcc::Work;

/// The kinds of requests that can be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Put,
    DeleteRange,
    Txn,
    Range,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    ClusterVersionSet,
    ClusterMemberAttrSet,
    DowngradeInfoSet,
    /// Refused: nothing here knows how to apply it.
    Unsupported,
}

impl Operation {
    pub const ALL: [Operation; 13] = [
        Operation::Put,
        Operation::DeleteRange,
        Operation::Txn,
        Operation::Range,
        Operation::Compaction,
        Operation::LeaseGrant,
        Operation::LeaseRevoke,
        Operation::LeaseCheckpoint,
        Operation::Alarm,
        Operation::ClusterVersionSet,
        Operation::ClusterMemberAttrSet,
        Operation::DowngradeInfoSet,
        Operation::Unsupported,
    ];

    pub fn of(request: &Request) -> Operation {
        match request {
            Request::Put(_) => Operation::Put,
            Request::DeleteRange(_) => Operation::DeleteRange,
            Request::Txn(_) => Operation::Txn,
            Request::Range(_) => Operation::Range,
            Request::Compaction(_) => Operation::Compaction,
            Request::LeaseGrant(_) => Operation::LeaseGrant,
            Request::LeaseRevoke(_) => Operation::LeaseRevoke,
            Request::LeaseCheckpoint(_) => Operation::LeaseCheckpoint,
            Request::Alarm(_) => Operation::Alarm,
            Request::ClusterVersionSet(_) => Operation::ClusterVersionSet,
            Request::ClusterMemberAttrSet(_) => Operation::ClusterMemberAttrSet,
            Request::DowngradeInfoSet(_) => Operation::DowngradeInfoSet,
            _ => Operation::Unsupported,
        }
    }

    /// As etcd's metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Put => "Put",
            Operation::DeleteRange => "DeleteRange",
            Operation::Txn => "Txn",
            Operation::Range => "Range",
            Operation::Compaction => "Compaction",
            Operation::LeaseGrant => "LeaseGrant",
            Operation::LeaseRevoke => "LeaseRevoke",
            Operation::LeaseCheckpoint => "LeaseCheckpoint",
            Operation::Alarm => "Alarm",
            Operation::ClusterVersionSet => "ClusterVersionSet",
            Operation::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            Operation::DowngradeInfoSet => "DowngradeInfoSet",
            Operation::Unsupported => "Unsupported",
        }
    }
}

/// What came of the requests that were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By [`Operation`]: those that were refused, and those that were not.
    pub operations: [[u64; 2]; Operation::ALL.len()],
    pub work: Work,
    /// Transactions that asked for more than one thing of the store, compares apart.
    pub txns: u64,
}

impl Counts {
    pub(crate) fn note(&mut self, operation: Operation, succeeded: bool) {
        self.operations[operation as usize][usize::from(succeeded)] += 1;
    }

    /// As etcd counts: what a put, a deletion or a transaction asked of the store at one go.
    pub(crate) fn add(&mut self, work: Work) {
        self.txns += u64::from(work.puts + work.deletes + work.ranges > 1);
        self.work.puts += work.puts;
        self.work.put_bytes += work.put_bytes;
        self.work.deletes += work.deletes;
        self.work.ranges += work.ranges;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_numbered_as_they_are_listed() {
        assert!(Operation::ALL.iter().enumerate().all(|(number, operation)| *operation as usize == number));
    }
}
