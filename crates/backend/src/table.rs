//! The tables of the file: `key` for MVCC rows, and the small ones, whose keys and values are etcd's
//! (`docs/backend.md` has them byte by byte).

use redb::TableDefinition;

/// A table by its bytes.
pub(crate) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Row key -> sealed record.
pub(crate) const KEY: Definition = TableDefinition::new("key");

/// Facts about the file itself, not part of etcd's data.
pub(crate) const FILE: Definition = TableDefinition::new("quorate");

/// A key of a small table and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A small table; its keys and values are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Meta,
    Lease,
    Alarm,
    Cluster,
    Members,
    MembersRemoved,
    Auth,
    AuthUsers,
    AuthRoles,
}

impl Table {
    /// Every small table, in declaration order.
    pub const ALL: [Table; 9] = [
        Table::Meta,
        Table::Lease,
        Table::Alarm,
        Table::Cluster,
        Table::Members,
        Table::MembersRemoved,
        Table::Auth,
        Table::AuthUsers,
        Table::AuthRoles,
    ];

    /// The name in the file: the name of etcd's bucket.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Lease => "lease",
            Table::Alarm => "alarm",
            Table::Cluster => "cluster",
            Table::Members => "members",
            Table::MembersRemoved => "members_removed",
            Table::Auth => "auth",
            Table::AuthUsers => "authUsers",
            Table::AuthRoles => "authRoles",
        }
    }

    pub(crate) const fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }
}
