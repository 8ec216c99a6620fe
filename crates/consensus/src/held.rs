//! Messages that must not leave before the disk has caught up.
//!
//! A leader's messages go out at once: its own disk is one of the quorum. What everybody else says may rest on what is
//! still being written (a vote, entries that were accepted), so it waits for all that was handed out for writing
//! before. Answers that rest on nothing but the term need only wait for the term to be on disk; so a slow disk does not
//! make a member look dead.

use std::collections::VecDeque;

use types::{Message, MessageKind};

#[derive(Default)]
pub(crate) struct Held {
    /// The last batch that was handed out for writing, and the last one that changed term or vote.
    handed_out: u64,
    handed_out_term: u64,
    on_disk: u64,
    /// With the number of the batch that must be on disk first; ascending.
    waiting: VecDeque<(u64, Vec<Message>)>,
    /// To be sent now.
    ready: Vec<Message>,
}

impl Held {
    /// The batch `number` is handed out for writing.
    pub(crate) fn hand_out(&mut self, number: u64, changes_term: bool) {
        self.handed_out = number;
        if changes_term {
            self.handed_out_term = number;
        }
    }

    /// Everything up to the batch `number` is on disk.
    pub(crate) fn on_disk(&mut self, number: u64) {
        self.on_disk = self.on_disk.max(number);
        let waits = self.waiting.partition_point(|(number, _)| *number <= self.on_disk);
        self.ready.extend(self.waiting.drain(..waits).flat_map(|(_, messages)| messages));
    }

    /// Whether all that was handed out is on disk.
    pub(crate) fn is_settled(&self) -> bool {
        self.on_disk >= self.handed_out
    }

    pub(crate) fn send_at_once(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.ready.extend(messages);
    }

    /// Sends as soon as what the messages rest on is on disk.
    pub(crate) fn send_when_safe(&mut self, messages: Vec<Message>) {
        if self.is_settled() {
            return self.ready.extend(messages);
        }
        let term_is_on_disk = self.on_disk >= self.handed_out_term;
        let (early, late) =
            messages.into_iter().partition(|message| term_is_on_disk && rests_on_the_term(message.kind));
        self.ready.extend::<Vec<_>>(early);
        if !late.is_empty() {
            self.waiting.push_back((self.handed_out, late));
        }
    }

    pub(crate) fn take_ready(&mut self) -> Vec<Message> {
        drop_superseded(&mut self.ready);
        std::mem::take(&mut self.ready)
    }
}

/// Leaves out what a later message to the same member says, too: of several heartbeats the last answers the reads of all, an
/// acknowledgement covers those of fewer entries, and an append tells the commit index as one without entries would.
fn drop_superseded(messages: &mut Vec<Message>) {
    if messages.len() < 2 {
        return;
    }
    let mut later = Vec::new();
    messages.reverse();
    messages.retain(|message| {
        let is_superseded = later.iter().any(|&(kind, to, term, index)| {
            (kind, to, term) == (message.kind, message.to, message.term) && message.index <= index
        });
        let may_be_left_out = match message.kind {
            MessageKind::Heartbeat => true,
            MessageKind::Append => message.entries.is_empty(),
            MessageKind::AppendResponse => !message.reject && message.context.is_empty(),
            _ => return true,
        };
        if !message.reject {
            later.push((message.kind, message.to, message.term, message.index));
        }
        !(is_superseded && may_be_left_out)
    });
    messages.reverse();
}

/// Whether a message says nothing of the sender's log or vote.
fn rests_on_the_term(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::HeartbeatResponse | MessageKind::Propose | MessageKind::ReadIndex | MessageKind::TransferLeader
    )
}

#[cfg(test)]
mod tests {
    use types::MemberId;

    use super::*;

    fn messages(kinds: &[MessageKind]) -> Vec<Message> {
        kinds.iter().map(|&kind| Message::new(kind, MemberId(1), MemberId(2))).collect()
    }

    fn ready(held: &mut Held) -> Vec<MessageKind> {
        held.take_ready().iter().map(|message| message.kind).collect()
    }

    #[test]
    fn what_rests_on_entries_waits_for_them_and_heartbeats_are_answered() {
        let mut held = Held::default();
        held.hand_out(3, false);
        held.send_when_safe(messages(&[MessageKind::AppendResponse, MessageKind::HeartbeatResponse]));
        assert_eq!(ready(&mut held), [MessageKind::HeartbeatResponse]);
        held.hand_out(5, false);
        held.send_when_safe(messages(&[MessageKind::AppendResponse]));
        held.on_disk(3);
        assert_eq!(ready(&mut held), [MessageKind::AppendResponse]);
        held.on_disk(5);
        assert_eq!(ready(&mut held), [MessageKind::AppendResponse]);
        held.send_when_safe(messages(&[MessageKind::AppendResponse]));
        assert_eq!(ready(&mut held), [MessageKind::AppendResponse]);
    }

    #[test]
    fn everything_waits_for_term_and_vote() {
        let mut held = Held::default();
        held.hand_out(1, true);
        held.send_when_safe(messages(&[MessageKind::VoteResponse, MessageKind::HeartbeatResponse]));
        assert_eq!(ready(&mut held), []);
        held.on_disk(1);
        assert_eq!(ready(&mut held), [MessageKind::VoteResponse, MessageKind::HeartbeatResponse]);
    }

    #[test]
    fn what_a_later_message_says_too_is_left_out() {
        use types::{EntryKind, Index, LogEntry, Term};
        let at =
            |kind, index: u64, to| Message { index: Index(index), ..Message::new(kind, MemberId(1), MemberId(to)) };
        let entry =
            LogEntry { term: Term(1), index: Index(8), kind: EntryKind::Normal, data: bytes::Bytes::from_static(b"x") };
        let with_entry = Message { entries: vec![entry], ..at(MessageKind::Append, 7, 2) };
        let refusal = Message { reject: true, ..at(MessageKind::AppendResponse, 6, 2) };
        let report = Message { context: bytes::Bytes::from_static(b"r"), ..at(MessageKind::AppendResponse, 5, 2) };
        let mut held = Held::default();
        held.send_at_once([
            at(MessageKind::Append, 7, 2),
            at(MessageKind::Append, 7, 3),
            at(MessageKind::Heartbeat, 0, 2),
            with_entry.clone(),
            report.clone(),
            at(MessageKind::AppendResponse, 6, 2),
            refusal.clone(),
            at(MessageKind::AppendResponse, 8, 2),
            at(MessageKind::AppendResponse, 7, 2),
            at(MessageKind::Heartbeat, 0, 2),
        ]);
        let left = [
            at(MessageKind::Append, 7, 3),
            with_entry,
            report,
            refusal,
            at(MessageKind::AppendResponse, 8, 2),
            at(MessageKind::AppendResponse, 7, 2),
            at(MessageKind::Heartbeat, 0, 2),
        ];
        assert_eq!(held.take_ready(), left);
    }
}
