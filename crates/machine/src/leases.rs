//! Entries about leases, and the stored form of a lease.

use api::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest, LeaseGrantResponse};
use api::leasepb;
use backend::{Staged, Table};
use bytes::{Bytes, BytesMut};
use env::Monotonic;
use lease::{GrantError, Lessor, StoredLease};
use membership::rows::DamagedRow;
use mvcc::{Changes, Txn};
use parking_lot::Mutex;
use prost::Message;
use types::{KeyRange, LeaseId};

use crate::error::ApplyError;

/// Grants a lease; returns the response without its header.
pub(crate) fn grant(
    lessor: &Mutex<Lessor>,
    request: &LeaseGrantRequest,
    now: Monotonic,
    staged: &mut Staged,
) -> Result<BytesMut, ApplyError> {
    let granted = lessor.lock().grant(LeaseId(request.id), request.ttl, now).map_err(|error| match error {
        GrantError::NoId => ApplyError::LeaseNotFound,
        GrantError::Exists => ApplyError::LeaseExists,
        GrantError::TtlTooLarge => ApplyError::LeaseTtlTooLarge,
    })?;
    staged.values.push(row(granted));
    let response = LeaseGrantResponse { id: granted.id.0, ttl: granted.ttl, ..LeaseGrantResponse::default() };
    let mut body = BytesMut::new();
    response.encode(&mut body).expect("a BytesMut grows as needed");
    Ok(body)
}

/// Ends a lease and deletes its keys, in order, in one revision.
pub(crate) fn revoke(
    lessor: &Mutex<Lessor>,
    id: LeaseId,
    mut txn: Txn<'_>,
    staged: &mut Staged,
) -> Result<Changes, ApplyError> {
    let keys = lessor.lock().revoke(id).map_err(|_| ApplyError::LeaseNotFound)?;
    for key in keys {
        txn.delete_range(&KeyRange::single(Bytes::from(key)));
    }
    staged.values.push((Table::Lease, key(id), None));
    Ok(txn.finish(staged))
}

/// Notes remaining times; unknown leases are passed over. Stored only if the cluster has agreed to it.
pub(crate) fn checkpoint(lessor: &Mutex<Lessor>, request: &LeaseCheckpointRequest, store: bool, staged: &mut Staged) {
    let mut lessor = lessor.lock();
    for checkpoint in &request.checkpoints {
        let noted = lessor.checkpoint(LeaseId(checkpoint.id), checkpoint.remaining_ttl);
        staged.values.extend(noted.filter(|_| store).map(row));
    }
}

/// Reads the stored leases.
pub(crate) fn parse_rows(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<StoredLease>, DamagedRow> {
    let parse = |(_, value): (Vec<u8>, Vec<u8>)| {
        let lease =
            leasepb::Lease::decode(&value[..]).map_err(|error| DamagedRow { row: "lease", what: error.to_string() })?;
        Ok(StoredLease { id: LeaseId(lease.id), ttl: lease.ttl, remaining_ttl: lease.remaining_ttl })
    };
    rows.into_iter().map(parse).collect()
}

fn row(lease: StoredLease) -> (Table, Vec<u8>, Option<Vec<u8>>) {
    let value = leasepb::Lease { id: lease.id.0, ttl: lease.ttl, remaining_ttl: lease.remaining_ttl };
    (Table::Lease, key(lease.id), Some(value.encode_to_vec()))
}

fn key(id: LeaseId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}
