//! From the backend to the state in memory, and the first state of a new cluster.

use backend::{Backend, Staged, Table};
use lease::{Lessor, LessorOptions};
use membership::{Member, Membership, rows};
use mvcc::Store;

use crate::alarms::Alarms;
use crate::error::MachineError;
use crate::leases;
use crate::members;

/// Stages the members a cluster starts with. Whoever makes a new backend calls it before [`crate::Machine::restore`],
/// unless the members come from the log.
pub fn bootstrap(backend: &Backend, initial: impl IntoIterator<Item = Member>) {
    let mut staged = Staged::default();
    let membership = Membership::new(initial, [], None, membership::Downgrade::default());
    for member in membership.members() {
        staged.values.push((Table::Members, rows::member_key(member.id), Some(rows::member(member))));
    }
    members::stage_conf_state(&membership, &mut staged);
    backend.stage(staged);
}

pub(crate) fn alarms(backend: &Backend) -> Result<Alarms, MachineError> {
    Ok(Alarms::restore(backend.values(Table::Alarm)?)?)
}

pub(crate) fn lessor(backend: &Backend, store: &Store, options: LessorOptions) -> Result<Lessor, MachineError> {
    let mut lessor = Lessor::restore(options, leases::parse_rows(backend.values(Table::Lease)?)?);
    store.attachments(&mut |key, lease| lessor.attach(key, types::LeaseId::NONE, lease));
    Ok(lessor)
}

pub(crate) fn membership(backend: &Backend) -> Result<Membership, MachineError> {
    let mut members = Vec::new();
    for (_, value) in backend.values(Table::Members)? {
        members.push(rows::parse_member(&value)?);
    }
    let mut removed = Vec::new();
    for (key, _) in backend.values(Table::MembersRemoved)? {
        removed.push(rows::parse_member_key(&key)?);
    }
    let version = backend.value(Table::Cluster, rows::CLUSTER_VERSION)?;
    let version = version.map(|value| rows::parse_cluster_version(&value)).transpose()?;
    let downgrade = backend.value(Table::Cluster, rows::DOWNGRADE)?;
    let downgrade = downgrade.map(|value| rows::parse_downgrade(&value)).transpose()?.unwrap_or_default();
    Ok(Membership::new(members, removed, version, downgrade))
}
