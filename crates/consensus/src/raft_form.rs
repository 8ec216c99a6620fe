//! Between raft-rs's own types and ours.

use bytes::Bytes;
use raft::eraftpb::{self, ConfState, Entry, EntryType, MessageType};
use types::{EntryKind, HardState, Index, LogEntry, MemberId, Message, MessageKind, SnapshotMeta, Term};

/// A change of the voters travels through raft-rs in an entry's `context`, where raft-rs does not look. Its own message has
/// no kind number 3, a learner that is added, and proposals with one would be dropped; what is empty it takes for a change.
pub(crate) fn to_entry(entry: LogEntry) -> Entry {
    let LogEntry { term, index, kind, data } = entry;
    let mut entry = Entry { term: term.0, index: index.0, ..Entry::default() };
    match kind {
        EntryKind::Normal => entry.data = data,
        EntryKind::ConfChange => {
            entry.entry_type = EntryType::EntryConfChange;
            entry.context = data;
        }
        EntryKind::ConfChangeV2 => {
            entry.entry_type = EntryType::EntryConfChangeV2;
            entry.data = data;
        }
    }
    entry
}

pub(crate) fn from_entry(entry: Entry) -> LogEntry {
    let (kind, data) = match entry.entry_type {
        EntryType::EntryNormal => (EntryKind::Normal, entry.data),
        EntryType::EntryConfChange => (EntryKind::ConfChange, entry.context),
        EntryType::EntryConfChangeV2 => (EntryKind::ConfChangeV2, entry.data),
    };
    LogEntry { term: Term(entry.term), index: Index(entry.index), kind, data }
}

pub(crate) fn from_hard_state(state: &eraftpb::HardState) -> HardState {
    HardState { term: Term(state.term), vote: MemberId(state.vote), commit: Index(state.commit) }
}

pub(crate) fn to_conf_state(voters: &[MemberId], learners: &[MemberId]) -> ConfState {
    let ids = |members: &[MemberId]| members.iter().map(|member| member.0).collect();
    ConfState { voters: ids(voters), learners: ids(learners), ..ConfState::default() }
}

/// Voters and learners, sorted: raft-rs keeps them in hash sets, whose order must not reach anybody.
pub(crate) fn from_conf_state(state: &ConfState) -> (Vec<MemberId>, Vec<MemberId>) {
    let sorted = |ids: &[u64]| {
        let mut members = ids.iter().copied().map(MemberId).collect::<Vec<_>>();
        members.sort_unstable();
        members
    };
    (sorted(&state.voters), sorted(&state.learners))
}

pub(crate) fn from_snapshot(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    let (voters, learners) = from_conf_state(meta.get_conf_state());
    SnapshotMeta { index: Index(meta.index), term: Term(meta.term), voters, learners }
}

fn to_snapshot(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let to = snapshot.mut_metadata();
    (to.index, to.term) = (meta.index.0, meta.term.0);
    to.set_conf_state(to_conf_state(&meta.voters, &meta.learners));
    snapshot
}

pub(crate) fn to_message(message: Message) -> eraftpb::Message {
    let mut to = eraftpb::Message {
        msg_type: to_kind(message.kind),
        to: message.to.0,
        from: message.from.0,
        term: message.term.0,
        log_term: message.log_term.0,
        index: message.index.0,
        commit: message.commit.0,
        reject: message.reject,
        reject_hint: message.reject_hint.0,
        context: message.context,
        ..eraftpb::Message::default()
    };
    to.set_entries(message.entries.into_iter().map(to_entry).collect());
    if let Some(meta) = &message.snapshot {
        to.set_snapshot(to_snapshot(meta));
    }
    to
}

/// `None` for what never leaves a member.
pub(crate) fn from_message(mut message: eraftpb::Message) -> Option<Message> {
    let kind = from_kind(message.msg_type)?;
    let entries = message.take_entries().into_iter().map(from_entry).collect();
    let snapshot = message.has_snapshot().then(|| from_snapshot(message.get_snapshot()));
    Some(Message {
        kind,
        to: MemberId(message.to),
        from: MemberId(message.from),
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: Index(message.index),
        entries,
        commit: Index(message.commit),
        snapshot,
        reject: message.reject,
        reject_hint: Index(message.reject_hint),
        context: std::mem::take::<Bytes>(&mut message.context),
    })
}

fn to_kind(kind: MessageKind) -> MessageType {
    match kind {
        MessageKind::Propose => MessageType::MsgPropose,
        MessageKind::Append => MessageType::MsgAppend,
        MessageKind::AppendResponse => MessageType::MsgAppendResponse,
        MessageKind::Vote => MessageType::MsgRequestVote,
        MessageKind::VoteResponse => MessageType::MsgRequestVoteResponse,
        MessageKind::Snapshot => MessageType::MsgSnapshot,
        MessageKind::Heartbeat => MessageType::MsgHeartbeat,
        MessageKind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        MessageKind::TransferLeader => MessageType::MsgTransferLeader,
        MessageKind::TimeoutNow => MessageType::MsgTimeoutNow,
        MessageKind::ReadIndex => MessageType::MsgReadIndex,
        MessageKind::ReadIndexResponse => MessageType::MsgReadIndexResp,
        MessageKind::PreVote => MessageType::MsgRequestPreVote,
        MessageKind::PreVoteResponse => MessageType::MsgRequestPreVoteResponse,
    }
}

fn from_kind(kind: MessageType) -> Option<MessageKind> {
    // raft-rs has etcd's numbers.
    MessageKind::from_number(kind as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went() {
        for number in 0..20 {
            let Some(kind) = MessageKind::from_number(number) else { continue };
            let entry = LogEntry {
                term: Term(3),
                index: Index(5),
                kind: EntryKind::ConfChange,
                data: Bytes::from_static(b"data"),
            };
            let snapshot = SnapshotMeta {
                index: Index(4),
                term: Term(3),
                voters: vec![MemberId(1), MemberId(2)],
                learners: vec![MemberId(3)],
            };
            let message = Message {
                term: Term(7),
                log_term: Term(6),
                index: Index(4),
                entries: vec![entry],
                commit: Index(2),
                snapshot: Some(snapshot),
                reject: true,
                reject_hint: Index(1),
                context: Bytes::from_static(b"context"),
                ..Message::new(kind, MemberId(1), MemberId(2))
            };
            assert_eq!(from_message(to_message(message.clone())), Some(message));
        }
        assert_eq!(from_message(eraftpb::Message { msg_type: MessageType::MsgHup, ..Default::default() }), None);
    }
}
