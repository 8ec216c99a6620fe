//! What raft-rs must not be given.
//!
//! raft-rs trusts its peers: some messages that no sound member sends make it panic, and the data of configuration
//! changes goes through a decoder with a known flaw. What fails here is dropped, as if the network had lost it.

use types::{EntryKind, Index, MemberId, Message, MessageKind, Term};

/// Where the receiving member stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) me: MemberId,
    pub(crate) term: Term,
    pub(crate) last: Index,
    pub(crate) committed: Index,
    /// Term of the entry at `committed`, if it is known.
    pub(crate) committed_term: Option<Term>,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    Drop(&'static str),
    /// The leader knows this member to have had entries that it does not have.
    LogLost,
}

/// The longest context of a read; ours has 16 bytes.
const READ_CONTEXT_BYTES_MAX: usize = 64;

pub(crate) fn check(message: &Message, standing: &Standing) -> Verdict {
    if message.to != standing.me || message.from == standing.me {
        return Verdict::Drop("it is not for this member");
    }
    if message.from == MemberId(0) {
        return Verdict::Drop("it is from nobody");
    }
    match message.kind {
        MessageKind::Append => append(message, standing),
        MessageKind::Heartbeat if message.term >= standing.term && message.commit > standing.last => Verdict::LogLost,
        MessageKind::Snapshot => snapshot(message),
        MessageKind::Propose => propose(message),
        MessageKind::ReadIndex | MessageKind::ReadIndexResponse => read(message),
        MessageKind::Vote | MessageKind::PreVote | MessageKind::VoteResponse | MessageKind::PreVoteResponse
            if message.term == Term(0) =>
        {
            Verdict::Drop("it has no term")
        }
        _ => Verdict::Take,
    }
}

fn append(message: &Message, standing: &Standing) -> Verdict {
    let mut before = (message.index, message.log_term);
    for entry in &message.entries {
        if entry.index != before.0.next() || entry.term < before.1 || entry.term > message.term {
            return Verdict::Drop("its entries do not follow each other");
        }
        before = (entry.index, entry.term);
    }
    if message.log_term > message.term {
        return Verdict::Drop("it continues a later term than its own");
    }
    let contradicts = standing.committed_term.is_some_and(|term| {
        message.index >= standing.committed && message.log_term < term && message.term >= standing.term
    });
    if contradicts { Verdict::Drop("it contradicts what is committed") } else { Verdict::Take }
}

fn snapshot(message: &Message) -> Verdict {
    let Some(meta) = &message.snapshot else { return Verdict::Drop("it has no snapshot") };
    if meta.index == Index(0) || meta.term == Term(0) || meta.term > message.term {
        return Verdict::Drop("its snapshot is of nothing");
    }
    let mut members = meta.voters.iter().chain(&meta.learners).copied().collect::<Vec<_>>();
    members.sort_unstable();
    let count = members.len();
    members.dedup();
    if meta.voters.is_empty() || members.len() < count || members.first() == Some(&MemberId(0)) {
        return Verdict::Drop("its snapshot's members are no configuration");
    }
    Verdict::Take
}

fn propose(message: &Message) -> Verdict {
    if message.entries.is_empty() || message.term != Term(0) {
        return Verdict::Drop("it is no proposal");
    }
    for entry in &message.entries {
        let is_sound = match entry.kind {
            EntryKind::Normal => true,
            EntryKind::ConfChange => is_plain_conf_change(&entry.data),
            EntryKind::ConfChangeV2 => false,
        };
        if !is_sound {
            return Verdict::Drop("it proposes a malformed change of the members");
        }
    }
    Verdict::Take
}

fn read(message: &Message) -> Verdict {
    match &message.entries[..] {
        [context] if context.data.len() <= READ_CONTEXT_BYTES_MAX => Verdict::Take,
        _ => Verdict::Drop("it has no read context"),
    }
}

/// Whether `data` is an encoded `raftpb.ConfChange` with known fields only: id, type and node as numbers, context as
/// bytes.
pub(crate) fn is_plain_conf_change(mut data: &[u8]) -> bool {
    while let Some(key) = take_varint(&mut data) {
        let is_known = match key {
            0x08 | 0x10 | 0x18 => take_varint(&mut data).is_some(),
            0x22 => take_varint(&mut data).is_some_and(|len| {
                let rest = usize::try_from(len).ok().and_then(|len| data.get(len..));
                data = rest.unwrap_or(data);
                rest.is_some()
            }),
            _ => false,
        };
        if !is_known {
            return false;
        }
        if data.is_empty() {
            return true;
        }
    }
    false
}

fn take_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::{LogEntry, SnapshotMeta};

    use super::*;

    const STANDING: Standing = Standing {
        me: MemberId(1),
        term: Term(5),
        last: Index(20),
        committed: Index(10),
        committed_term: Some(Term(4)),
    };

    fn message(kind: MessageKind) -> Message {
        Message { term: Term(5), ..Message::new(kind, MemberId(2), MemberId(1)) }
    }

    fn entry(index: u64, term: u64, kind: EntryKind, data: &'static [u8]) -> LogEntry {
        LogEntry { index: Index(index), term: Term(term), kind, data: Bytes::from_static(data) }
    }

    fn normal(index: u64, term: u64) -> LogEntry {
        entry(index, term, EntryKind::Normal, b"")
    }

    fn is_dropped(message: &Message) -> bool {
        matches!(check(message, &STANDING), Verdict::Drop(_))
    }

    #[test]
    fn entries_must_follow_each_other() {
        let append = |log_term, entries| Message {
            index: Index(12),
            log_term: Term(log_term),
            entries,
            ..message(MessageKind::Append)
        };
        assert_eq!(check(&append(4, vec![normal(13, 4), normal(14, 5)]), &STANDING), Verdict::Take);
        assert_eq!(check(&append(4, vec![]), &STANDING), Verdict::Take);
        for entries in [vec![normal(12, 4)], vec![normal(14, 4)], vec![normal(13, 3)], vec![normal(13, 6)]] {
            assert!(is_dropped(&append(4, entries)));
        }
        assert!(is_dropped(&append(3, vec![])), "term 4 is committed before it");
        assert!(is_dropped(&append(6, vec![])));
    }

    #[test]
    fn a_heartbeat_beyond_the_log_means_that_the_log_was_lost() {
        let heartbeat =
            |term, commit| Message { term: Term(term), commit: Index(commit), ..message(MessageKind::Heartbeat) };
        assert_eq!(check(&heartbeat(5, 20), &STANDING), Verdict::Take);
        assert_eq!(check(&heartbeat(5, 21), &STANDING), Verdict::LogLost);
        assert_eq!(check(&heartbeat(4, 21), &STANDING), Verdict::Take, "an old leader's word is not taken anyway");
    }

    #[test]
    fn snapshots_have_members() {
        let snapshot = |voters: &[u64], learners: &[u64]| {
            let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
            let meta = SnapshotMeta { index: Index(30), term: Term(5), voters: ids(voters), learners: ids(learners) };
            Message { snapshot: Some(meta), ..message(MessageKind::Snapshot) }
        };
        assert_eq!(check(&snapshot(&[1, 2], &[3]), &STANDING), Verdict::Take);
        for (voters, learners) in [(&[][..], &[1][..]), (&[1, 1], &[]), (&[1, 2], &[2]), (&[0], &[])] {
            assert!(is_dropped(&snapshot(voters, learners)));
        }
        assert!(is_dropped(&message(MessageKind::Snapshot)));
    }

    #[test]
    fn changes_of_members_are_proposed_in_their_plain_form_or_not_at_all() {
        let propose = |kind, data| Message {
            term: Term(0),
            entries: vec![entry(0, 0, kind, data)],
            ..message(MessageKind::Propose)
        };
        let taken = |data| check(&propose(EntryKind::ConfChange, data), &STANDING) == Verdict::Take;
        assert!(taken(b"\x08\x01\x10\x00\x18\x96\x01\x22\x02{}"));
        for data in [
            &b""[..],
            b"\x08",
            b"\x0b\x0b\x0b\x0b",
            b"\x22\x05{}",
            b"\x28\x01",
            b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert!(!taken(data), "{data:?}");
        }
        assert!(is_dropped(&propose(EntryKind::ConfChangeV2, b"")));
        assert!(is_dropped(&message(MessageKind::Propose)));
        assert_eq!(check(&propose(EntryKind::Normal, b"anything"), &STANDING), Verdict::Take);
    }

    #[test]
    fn misdirected_messages_and_reads_without_context_are_dropped() {
        assert!(is_dropped(&Message { to: MemberId(3), ..message(MessageKind::Heartbeat) }));
        assert!(is_dropped(&Message { from: MemberId(1), ..message(MessageKind::Heartbeat) }));
        assert!(is_dropped(&Message { from: MemberId(0), ..message(MessageKind::Heartbeat) }));
        assert!(is_dropped(&message(MessageKind::ReadIndex)));
        assert!(is_dropped(&Message { term: Term(0), ..message(MessageKind::Vote) }));
    }
}
