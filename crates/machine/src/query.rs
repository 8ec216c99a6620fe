//! From requests to the store's own terms.

use api::etcdserverpb::RangeRequest;
use api::etcdserverpb::range_request as wire;
use bytes::Bytes;
use mvcc::{RangeQuery, SortOrder, SortTarget};
use types::KeyRange;

use crate::error::RequestError;

pub(crate) fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::from_wire(key.clone(), range_end.clone())
}

/// What a range request asks of the store.
///
/// # Errors
/// If its sort options are none of the known ones.
pub(crate) fn range_query(request: &RangeRequest) -> Result<RangeQuery, RequestError> {
    Ok(RangeQuery {
        range: key_range(&request.key, &request.range_end),
        revision: request.revision,
        limit: request.limit,
        keys_only: request.keys_only,
        count_only: request.count_only,
        order: sort_order(request.sort_order)?,
        target: sort_target(request.sort_target)?,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// Refuses sort options that are none of the known ones.
pub(crate) fn check_sort(request: &RangeRequest) -> Result<(), RequestError> {
    sort_order(request.sort_order)?;
    sort_target(request.sort_target)?;
    Ok(())
}

fn sort_order(number: i32) -> Result<SortOrder, RequestError> {
    match wire::SortOrder::try_from(number) {
        Ok(wire::SortOrder::None) => Ok(SortOrder::None),
        Ok(wire::SortOrder::Ascend) => Ok(SortOrder::Ascend),
        Ok(wire::SortOrder::Descend) => Ok(SortOrder::Descend),
        Err(_) => Err(RequestError::InvalidSortOption),
    }
}

fn sort_target(number: i32) -> Result<SortTarget, RequestError> {
    match wire::SortTarget::try_from(number) {
        Ok(wire::SortTarget::Key) => Ok(SortTarget::Key),
        Ok(wire::SortTarget::Version) => Ok(SortTarget::Version),
        Ok(wire::SortTarget::Create) => Ok(SortTarget::CreateRevision),
        Ok(wire::SortTarget::Mod) => Ok(SortTarget::ModRevision),
        Ok(wire::SortTarget::Value) => Ok(SortTarget::Value),
        Err(_) => Err(RequestError::InvalidSortOption),
    }
}
