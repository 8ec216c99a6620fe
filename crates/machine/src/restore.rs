//! From a committed state of the backend to the state in memory.

use backend::{ReadView, Table};
use lease::{Lessor, LessorOptions};
use membership::{ConfState, Membership, rows};
use types::{LeaseId, SnapshotMeta};

use crate::alarms::Alarms;
use crate::error::MachineError;
use crate::leases;

/// What a snapshot of the committed state stands for: what raft is told of one that is sent, and what one that came is held
/// against.
///
/// # Errors
/// If the state cannot be read or holds what it should not.
pub fn snapshot_meta(view: &ReadView) -> Result<SnapshotMeta, MachineError> {
    let (index, term) = view.applied();
    let ConfState { voters, learners } = membership(view)?.conf_state();
    Ok(SnapshotMeta { index, term, voters, learners })
}

pub(crate) fn alarms(view: &ReadView) -> Result<Alarms, MachineError> {
    Ok(Alarms::restore(view.values(Table::Alarm)?).map_err(|error| view.damaged(error))?)
}

/// The leases, none of them with a deadline. `attachments` tells which keys name which lease.
pub(crate) fn lessor(
    view: &ReadView,
    attachments: impl FnOnce(&mut dyn FnMut(&[u8], LeaseId)),
    options: LessorOptions,
) -> Result<Lessor, MachineError> {
    let leases = leases::parse_rows(view.values(Table::Lease)?).map_err(|error| view.damaged(error))?;
    let mut lessor = Lessor::restore(options, leases);
    // Keys may name leases that are gone. Without any lease there is no need to look at all of them.
    if !lessor.is_empty() {
        attachments(&mut |key, lease| lessor.attach(key, LeaseId::NONE, lease));
    }
    Ok(lessor)
}

pub(crate) fn membership(view: &ReadView) -> Result<Membership, MachineError> {
    let damaged = |error| view.damaged(error);
    let mut members = Vec::new();
    for (_, value) in view.values(Table::Members)? {
        members.push(rows::parse_member(&value).map_err(damaged)?);
    }
    let mut removed = Vec::new();
    for (key, _) in view.values(Table::MembersRemoved)? {
        removed.push(rows::parse_member_key(&key).map_err(damaged)?);
    }
    let version = view.get(Table::Cluster, rows::CLUSTER_VERSION)?;
    let version = version.map(|value| rows::parse_cluster_version(&value)).transpose().map_err(damaged)?;
    let downgrade = view.get(Table::Cluster, rows::DOWNGRADE)?;
    let downgrade = downgrade.map(|value| rows::parse_downgrade(&value)).transpose().map_err(damaged)?;
    Ok(Membership::new(members, removed, version, downgrade.unwrap_or_default()))
}
