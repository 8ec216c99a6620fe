//! From the backend to the state in memory.

use backend::{Backend, Table};
use lease::{Lessor, LessorOptions};
use membership::{Membership, rows};
use mvcc::Store;
use types::LeaseId;

use crate::alarms::Alarms;
use crate::error::MachineError;
use crate::leases;

pub(crate) fn alarms(backend: &Backend) -> Result<Alarms, MachineError> {
    Ok(Alarms::restore(backend.values(Table::Alarm)?).map_err(|error| backend.damaged(error))?)
}

pub(crate) fn lessor(backend: &Backend, store: &Store, options: LessorOptions) -> Result<Lessor, MachineError> {
    let leases = leases::parse_rows(backend.values(Table::Lease)?).map_err(|error| backend.damaged(error))?;
    let mut lessor = Lessor::restore(options, leases);
    // Keys may name leases that are gone. Without any lease there is no need to look at all of them.
    if !lessor.is_empty() {
        store.attachments(&mut |key, lease| lessor.attach(key, LeaseId::NONE, lease));
    }
    Ok(lessor)
}

pub(crate) fn membership(backend: &Backend) -> Result<Membership, MachineError> {
    let damaged = |error| backend.damaged(error);
    let mut members = Vec::new();
    for (_, value) in backend.values(Table::Members)? {
        members.push(rows::parse_member(&value).map_err(damaged)?);
    }
    let mut removed = Vec::new();
    for (key, _) in backend.values(Table::MembersRemoved)? {
        removed.push(rows::parse_member_key(&key).map_err(damaged)?);
    }
    let version = backend.value(Table::Cluster, rows::CLUSTER_VERSION)?;
    let version = version.map(|value| rows::parse_cluster_version(&value)).transpose().map_err(damaged)?;
    let downgrade = backend.value(Table::Cluster, rows::DOWNGRADE)?;
    let downgrade = downgrade.map(|value| rows::parse_downgrade(&value)).transpose().map_err(damaged)?;
    Ok(Membership::new(members, removed, version, downgrade.unwrap_or_default()))
}
