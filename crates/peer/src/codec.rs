//! `types::Message` to and from etcd's `raftpb.Message`.
//!
//! Invariants
//! - What decodes may travel: a known kind that is no member's own affair, entries of known kinds, no joint configuration.
//! - Decoding takes memory in proportion to the bytes that came; entries' data stay parts of those bytes.
//! - A snapshot's data is never written: the state follows on its own (see `docs/peer.md`).

use api::raftpb;
use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use types::{EntryKind, Index, LogEntry, MemberId, Message, MessageKind, SnapshotMeta, Term};

/// Entries of one message. Leaders keep messages to a MiB or so, and no entry takes less than two bytes.
pub(crate) const ENTRIES_MAX: usize = 1 << 20;

const TAG_ENTRIES: u64 = 7;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("bytes that are no raft message")]
    Malformed,
    #[error("raft message of type {0}, which does not travel between members")]
    Kind(i32),
    #[error("entry of unknown type {0}")]
    EntryKind(i32),
    #[error("raft message with {0} entries")]
    Entries(usize),
    #[error("snapshot without members, or with a joint configuration")]
    Configuration,
}

/// Appends the encoded message to `buffer`.
pub fn encode(message: &Message, buffer: &mut BytesMut) {
    let wire = to_wire(message);
    buffer.reserve(wire.encoded_len());
    wire.encode(buffer).expect("a buffer grows as needed");
}

/// How many bytes [`encode`] writes.
pub fn encoded_len(message: &Message) -> usize {
    to_wire(message).encoded_len()
}

/// Reads one message that fills `bytes`.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &Bytes) -> Result<Message, CodecError> {
    let entries = count_entries(bytes).ok_or(CodecError::Malformed)?;
    if entries > ENTRIES_MAX {
        return Err(CodecError::Entries(entries));
    }
    let wire = raftpb::Message::decode(bytes.clone()).map_err(|_| CodecError::Malformed)?;
    from_wire(wire)
}

pub(crate) fn entry_to_wire(entry: &LogEntry) -> raftpb::Entry {
    raftpb::Entry { r#type: entry.kind as i32, term: entry.term.0, index: entry.index.0, data: entry.data.clone() }
}

/// Reads one entry that fills `bytes`.
pub(crate) fn decode_entry(bytes: Bytes) -> Result<LogEntry, CodecError> {
    entry_from_wire(raftpb::Entry::decode(bytes).map_err(|_| CodecError::Malformed)?)
}

fn to_wire(message: &Message) -> raftpb::Message {
    raftpb::Message {
        r#type: message.kind as i32,
        to: message.to.0,
        from: message.from.0,
        term: message.term.0,
        log_term: message.log_term.0,
        index: message.index.0,
        entries: message.entries.iter().map(entry_to_wire).collect(),
        commit: message.commit.0,
        snapshot: message.snapshot.as_ref().map(snapshot_to_wire),
        reject: message.reject,
        reject_hint: message.reject_hint.0,
        context: message.context.clone(),
    }
}

fn snapshot_to_wire(snapshot: &SnapshotMeta) -> raftpb::Snapshot {
    let ids = |members: &[MemberId]| members.iter().map(|id| id.0).collect();
    let configuration = raftpb::ConfState {
        voters: ids(&snapshot.voters),
        learners: ids(&snapshot.learners),
        ..raftpb::ConfState::default()
    };
    let metadata =
        raftpb::SnapshotMetadata { conf_state: Some(configuration), index: snapshot.index.0, term: snapshot.term.0 };
    raftpb::Snapshot { data: Bytes::new(), metadata: Some(metadata) }
}

fn from_wire(wire: raftpb::Message) -> Result<Message, CodecError> {
    let kind = MessageKind::from_number(wire.r#type).ok_or(CodecError::Kind(wire.r#type))?;
    let snapshot = match (kind, wire.snapshot) {
        (MessageKind::Snapshot, Some(snapshot)) => Some(snapshot_from_wire(snapshot)?),
        (MessageKind::Snapshot, None) => return Err(CodecError::Configuration),
        // etcd 3.5 writes an empty one into every message.
        _ => None,
    };
    let mut entries = Vec::with_capacity(wire.entries.len());
    for entry in wire.entries {
        entries.push(entry_from_wire(entry)?);
    }
    Ok(Message {
        kind,
        to: MemberId(wire.to),
        from: MemberId(wire.from),
        term: Term(wire.term),
        log_term: Term(wire.log_term),
        index: Index(wire.index),
        entries,
        commit: Index(wire.commit),
        snapshot,
        reject: wire.reject,
        reject_hint: Index(wire.reject_hint),
        context: wire.context,
    })
}

fn snapshot_from_wire(wire: raftpb::Snapshot) -> Result<SnapshotMeta, CodecError> {
    let metadata = wire.metadata.unwrap_or_default();
    let configuration = metadata.conf_state.unwrap_or_default();
    let is_joint = !configuration.voters_outgoing.is_empty() || !configuration.learners_next.is_empty();
    if is_joint || configuration.voters.is_empty() {
        return Err(CodecError::Configuration);
    }
    let sorted = |mut ids: Vec<u64>| {
        ids.sort_unstable();
        ids.into_iter().map(MemberId).collect()
    };
    Ok(SnapshotMeta {
        index: Index(metadata.index),
        term: Term(metadata.term),
        voters: sorted(configuration.voters),
        learners: sorted(configuration.learners),
    })
}

fn entry_from_wire(entry: raftpb::Entry) -> Result<LogEntry, CodecError> {
    let kind = u8::try_from(entry.r#type).ok().and_then(EntryKind::from_number);
    let kind = kind.ok_or(CodecError::EntryKind(entry.r#type))?;
    Ok(LogEntry { term: Term(entry.term), index: Index(entry.index), kind, data: entry.data })
}

/// How many entries a message holds, before memory is taken for them: two bytes of wire become seventy in memory.
/// `None` if its fields do not fit together.
fn count_entries(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let mut count = 0;
    while rest.has_remaining() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => drop(varint(&mut rest)?),
            1 => skip(&mut rest, 8)?,
            2 => {
                let len = varint(&mut rest)?;
                skip(&mut rest, len)?;
                count += usize::from(key >> 3 == TAG_ENTRIES);
            }
            5 => skip(&mut rest, 4)?,
            _ => return None,
        }
    }
    Some(count)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn skip(rest: &mut &[u8], len: u64) -> Option<()> {
    *rest = rest.get(usize::try_from(len).ok()?..)?;
    Some(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn encoded(message: &Message) -> Bytes {
        let mut buffer = BytesMut::new();
        encode(message, &mut buffer);
        assert_eq!(buffer.len(), encoded_len(message));
        buffer.freeze()
    }

    pub(crate) fn any_entry() -> impl Strategy<Value = LogEntry> {
        (any::<u64>(), any::<u64>(), 0..3u8, vec(any::<u8>(), 0..40)).prop_map(|(term, index, kind, data)| LogEntry {
            term: Term(term),
            index: Index(index),
            kind: EntryKind::from_number(kind).expect("0, 1 and 2 are kinds"),
            data: data.into(),
        })
    }

    fn any_snapshot() -> impl Strategy<Value = SnapshotMeta> {
        (any::<u64>(), any::<u64>(), vec(any::<u64>(), 1..5), vec(any::<u64>(), 0..5)).prop_map(
            |(index, term, mut voters, mut learners)| {
                voters.sort_unstable();
                learners.sort_unstable();
                let ids = |ids: Vec<u64>| ids.into_iter().map(MemberId).collect();
                SnapshotMeta { index: Index(index), term: Term(term), voters: ids(voters), learners: ids(learners) }
            },
        )
    }

    pub(crate) fn any_message() -> impl Strategy<Value = Message> {
        let kind = (0..30i32).prop_filter_map("kinds that travel", MessageKind::from_number);
        let numbers = (any::<[u64; 7]>(), any::<bool>());
        (kind, numbers, vec(any_entry(), 0..6), any_snapshot(), vec(any::<u8>(), 0..30)).prop_map(
            |(kind, ([to, from, term, log_term, index, commit, hint], reject), entries, snapshot, context)| Message {
                kind,
                to: MemberId(to),
                from: MemberId(from),
                term: Term(term),
                log_term: Term(log_term),
                index: Index(index),
                entries,
                commit: Index(commit),
                snapshot: (kind == MessageKind::Snapshot).then_some(snapshot),
                reject,
                reject_hint: Index(hint),
                context: context.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(message in any_message()) {
            prop_assert_eq!(decode(&encoded(&message)).unwrap(), message);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes.into()));
        }

        #[test]
        fn a_message_cut_short_or_changed_is_no_panic(message in any_message(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let bytes = encoded(&message);
            let at = at.index(bytes.len());
            drop(decode(&bytes.slice(..at)));
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            drop(decode(&changed.into()));
        }
    }

    /// A heartbeat as etcd 3.5 writes it: zeros, and an empty snapshot.
    #[test]
    fn a_message_with_every_scalar_written_is_read() {
        let bytes = hex("0808 1002 1801 2005 2800 3000 4009 4a0a12080a02280010001800 5000 5800 62023132");
        let expected = Message {
            term: Term(5),
            commit: Index(9),
            context: Bytes::from_static(b"12"),
            ..Message::new(MessageKind::Heartbeat, MemberId(1), MemberId(2))
        };
        assert_eq!(decode(&bytes).unwrap(), expected);
    }

    #[test]
    fn messages_are_written_like_this() {
        let entry =
            LogEntry { term: Term(2), index: Index(14), kind: EntryKind::Normal, data: Bytes::from_static(b"x") };
        let append = Message {
            term: Term(2),
            log_term: Term(1),
            index: Index(13),
            entries: vec![entry],
            commit: Index(12),
            ..Message::new(MessageKind::Append, MemberId(1), MemberId(2))
        };
        assert_eq!(encoded(&append), hex("0803 1002 1801 2002 2801 300d 3a07 1002 180e 220178 400c"));
        let snapshot = SnapshotMeta {
            index: Index(7),
            term: Term(2),
            voters: vec![MemberId(1), MemberId(2)],
            learners: vec![MemberId(3)],
        };
        let snapshot =
            Message { snapshot: Some(snapshot), ..Message::new(MessageKind::Snapshot, MemberId(1), MemberId(2)) };
        assert_eq!(encoded(&snapshot), hex("0807 1002 1801 4a0f 120d 0a07 0a020102 120103 1007 1802"));
    }

    #[test]
    fn an_entry_of_etcd_is_read() {
        let entry =
            decode_entry(hex("0800 1002 180e 2218 2208 0a027331 12027731 a2060b 088fa8b391bdbfe8f5dd01")).unwrap();
        assert_eq!((entry.term, entry.index, entry.kind), (Term(2), Index(14), EntryKind::Normal));
        assert_eq!(entry.data.len(), 24);
    }

    #[test]
    fn what_must_not_travel_is_refused() {
        for kind in [0, 1, 10, 11, 12, 19, 23] {
            assert_eq!(decode(&Bytes::from(vec![0x08, kind])), Err(CodecError::Kind(kind.into())));
        }
        assert_eq!(decode(&hex("0803 3a02 0803")), Err(CodecError::EntryKind(3)));
        // No snapshot; one without voters; one with outgoing voters.
        assert_eq!(decode(&hex("0807")), Err(CodecError::Configuration));
        assert_eq!(decode(&hex("0807 4a04 1202 1007")), Err(CodecError::Configuration));
        assert_eq!(decode(&hex("0807 4a0a 1208 0a06 0a0101 1a0102")), Err(CodecError::Configuration));
    }

    #[test]
    fn entries_are_counted_before_they_take_memory() {
        let mut bytes = vec![0x08, 0x03];
        for _ in 0..=ENTRIES_MAX {
            bytes.extend_from_slice(&[0x3a, 0x00]);
        }
        assert_eq!(decode(&bytes.into()), Err(CodecError::Entries(ENTRIES_MAX + 1)));
    }

    #[test]
    fn data_of_entries_is_not_copied() {
        let bytes = hex("0803 3a03 220178");
        let message = decode(&bytes).unwrap();
        assert_eq!(message.entries[0].data.as_ptr(), bytes[6..].as_ptr());
    }
}
