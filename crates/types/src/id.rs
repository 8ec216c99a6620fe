//! Newtypes for the numbers that must never meet by accident.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number!(
    /// A raft election term; 0 before the first election.
    Term(u64),
    "{}"
);
number!(
    /// A position in the raft log; the first entry has index 1.
    Index(u64),
    "{}"
);
number!(
    /// A cluster member; 0 means "none". Shown in lower-case hex, as etcd shows it.
    MemberId(u64),
    "{:x}"
);
number!(
    /// A cluster; shown in lower-case hex.
    ClusterId(u64),
    "{:x}"
);
number!(
    /// A lease; 0 means "no lease". Clients may choose negative ids. Shown as 16 hex digits.
    LeaseId(i64),
    "{:016x}"
);

impl Index {
    /// The position after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl LeaseId {
    /// The absent lease.
    pub const NONE: LeaseId = LeaseId(0);
}
