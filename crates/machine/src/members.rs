//! Entries about the cluster itself: who belongs to it, what members say of themselves, which version it has.

use api::etcdserverpb;
use api::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};
use backend::{Staged, Table};
use bytes::{Bytes, BytesMut};
use membership::{Attributes, Change, Downgrade, LoggedChange, Member, Membership, rows};
use prost::Message;
use types::MemberId;

use crate::error::ApplyError;

/// What raft must be told about an applied membership entry, whatever came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterChange {
    AddVoter(MemberId),
    AddLearner(MemberId),
    Remove(MemberId),
    /// Refused, or of no interest to raft: it may take the next change.
    Unchanged,
}

/// `raftpb.ConfChange`.
#[derive(Clone, PartialEq, Message)]
struct ConfChange {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    node_id: u64,
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

/// What a log entry that makes `change` holds; its result will carry `request_id`.
pub fn encode_conf_change(request_id: u64, change: &Change) -> Bytes {
    let logged = LoggedChange::new(change);
    let context = logged.context.into();
    ConfChange { id: request_id, kind: logged.kind, node_id: logged.node.0, context }.encode_to_vec().into()
}

/// Reads a log entry that changes the members: the request's id and the change.
pub(crate) fn decode_conf_change(data: &[u8]) -> Result<(u64, Result<Change, ApplyError>), ApplyError> {
    let read = ConfChange::decode(data).map_err(|error| ApplyError::Undecodable(error.to_string()))?;
    let logged = LoggedChange { kind: read.kind, node: MemberId(read.node_id), context: read.context.to_vec() };
    Ok((read.id, logged.parse().map_err(|error| ApplyError::Undecodable(error.to_string()))))
}

/// The change that a log entry makes; `None` if it holds none that can be read.
pub fn parse_conf_change(data: &[u8]) -> Option<Change> {
    decode_conf_change(data).ok()?.1.ok()
}

/// Changes the members; returns the response to whoever asked, without its header, and what raft must be told.
pub(crate) fn change(
    membership: &mut Membership,
    learners_max: usize,
    change: &Change,
    staged: &mut Staged,
) -> Result<(BytesMut, VoterChange), ApplyError> {
    membership.apply(change.clone(), learners_max)?;
    let id = change.member();
    let voters = match change {
        Change::Add(member) if member.is_learner => VoterChange::AddLearner(id),
        Change::Add(_) | Change::Promote(_) => VoterChange::AddVoter(id),
        Change::Remove(_) => VoterChange::Remove(id),
        Change::Update { .. } => VoterChange::Unchanged,
    };
    staged.values.push((Table::Members, rows::member_key(id), membership.member(id).map(rows::member)));
    if membership.is_removed(id) {
        staged.values.push((Table::MembersRemoved, rows::member_key(id), Some(rows::REMOVED.to_vec())));
    }
    let state = rows::conf_state(&membership.conf_state());
    staged.values.push((Table::Meta, rows::CONF_STATE.to_vec(), Some(state)));
    let body = match membership.member(id) {
        Some(added) if matches!(change, Change::Add(_)) => encode(&etcdserverpb::MemberAddResponse {
            header: None,
            member: Some(wire_member(added)),
            members: wire_members(membership),
        }),
        _ => list(membership),
    };
    Ok((body, voters))
}

/// Notes what a member says of itself.
pub(crate) fn set_attributes(
    membership: &mut Membership,
    request: ClusterMemberAttrSetRequest,
    staged: &mut Staged,
) -> Result<(), ApplyError> {
    let id = MemberId(request.member_id);
    let said = request.member_attributes.unwrap_or_default();
    let attributes = Attributes { name: said.name, client_urls: said.client_urls };
    if membership.set_attributes(id, attributes)? {
        staged.values.push((Table::Members, rows::member_key(id), membership.member(id).map(rows::member)));
    }
    Ok(())
}

pub(crate) fn set_version(
    membership: &mut Membership,
    request: ClusterVersionSetRequest,
    staged: &mut Staged,
) -> Result<(), ApplyError> {
    let version = request.ver.parse().map_err(|_| ApplyError::InvalidVersion(request.ver))?;
    membership.set_version(version);
    staged.values.push((Table::Cluster, rows::CLUSTER_VERSION.to_vec(), Some(rows::cluster_version(version))));
    Ok(())
}

pub(crate) fn set_downgrade(membership: &mut Membership, request: DowngradeInfoSetRequest, staged: &mut Staged) {
    let downgrade = Downgrade { target_version: request.ver, enabled: request.enabled };
    staged.values.push((Table::Cluster, rows::DOWNGRADE.to_vec(), Some(rows::downgrade(&downgrade))));
    membership.set_downgrade(downgrade);
}

/// The list of members, as field 2 of every response that has one.
pub(crate) fn list(membership: &Membership) -> BytesMut {
    encode(&etcdserverpb::MemberListResponse { header: None, members: wire_members(membership) })
}

fn wire_members(membership: &Membership) -> Vec<etcdserverpb::Member> {
    membership.members().map(wire_member).collect()
}

fn wire_member(member: &Member) -> etcdserverpb::Member {
    etcdserverpb::Member {
        id: member.id.0,
        name: member.attributes.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.attributes.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

fn encode(message: &impl Message) -> BytesMut {
    let mut body = BytesMut::with_capacity(message.encoded_len());
    message.encode(&mut body).expect("a BytesMut grows as needed");
    body
}
