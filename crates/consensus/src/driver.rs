//! The driver: raft-rs between events and effects.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use env::Rng;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, MessageType};
use raft::{Config, GetEntriesContext, ProgressState, RawNode, SnapshotStatus, StateRole};
use types::{EntryKind, HardState, Index, LogEntry, MemberId, Message, MessageKind, Term};

use crate::effect::{Effect, LogProgress, Progress, Role, Sending, Status, VoterChange};
use crate::election_timeout::ElectionTimeout;
use crate::guard::{self, Standing, Verdict};
use crate::held::Held;
use crate::log_store::LogStore;
use crate::logger::logger;
use crate::raft_form::{
    from_conf_state, from_entry, from_hard_state, from_message, from_snapshot, to_conf_state, to_entry, to_message,
};

/// How one member takes part.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    pub id: MemberId,
    pub heartbeat_ticks: usize,
    pub election_ticks: usize,
    pub pre_vote: bool,
    /// Applied entries kept in memory for followers, at most this many ...
    pub kept_entries_max: usize,
    /// ... and at most this many bytes.
    pub kept_bytes_max: usize,
}

/// What a member finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct Restored {
    pub hard_state: HardState,
    /// Voters and learners as of `applied`; both empty if nothing was applied yet.
    pub voters: Vec<MemberId>,
    pub learners: Vec<MemberId>,
    /// The newest entry whose effects the state already holds, and its term.
    pub applied: (Index, Term),
    /// Where terms begin in the part of the log that is on disk before `entries`, ascending: the first one is that of an
    /// entry after which all can be read back. The entry before `entries` must be covered.
    pub terms: Vec<(Index, Term)>,
    /// The index before the first of `entries`; at most `applied`.
    pub before_first: Index,
    pub entries: Vec<LogEntry>,
}

/// The driver cannot go on; the member stops.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
    #[error(
        "the leader {leader} knows this member to have had the log up to {known}, but it ends at {last}: part of this \
         member's data was lost; remove the member from the cluster, wipe its data and add it anew"
    )]
    LogLost { leader: MemberId, known: Index, last: Index },
}

/// A proposal that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nobody leads, or leadership is being handed over: try again when the status has changed.
    #[error("no leader")]
    NoLeader,
    /// Too much is waiting to be committed.
    #[error("proposal dropped")]
    Dropped,
}

/// One member's consensus.
pub struct Driver {
    node: RawNode<LogStore>,
    timeout: ElectionTimeout,
    config: DriverConfig,
    status: Status,
    /// Ticks since the start.
    now: u64,
    /// In front of every read's context on the wire: drawn at the start, so that no other member and no other run uses the same.
    read_prefix: [u8; READ_PREFIX_BYTES],
    /// Contexts of reads that raft was asked for and has not answered yet, in order, and when it was asked.
    reads: VecDeque<(u64, u64)>,
    /// Contexts of reads that wait for a leader, for its first commit (raft would drop them until then), or for the end of
    /// the leader's round.
    early_reads: Vec<u64>,
    /// The same for reads of other members.
    early_reads_of_others: Vec<Message>,
    /// A hard state that differs from the one on disk only in its commit index: it is written with the next batch.
    lazy_hard_state: Option<HardState>,
    /// Term and vote as they were last handed out for writing.
    written_vote: (Term, MemberId),
    held: Held,
    /// How far all members were told that entries are committed.
    told_commit: u64,
    /// The term [`Effect::Leading`] was said of.
    leading: Option<u64>,
    /// Tells others what is committed, and nothing else.
    tells: Vec<Message>,
    /// The voters that have answered since the last tick, the promptest first: a read round of this leader asks them.
    prompt: Vec<u64>,
    /// Entries that are being read back, by the index of the first.
    fetching: BTreeMap<u64, Vec<GetEntriesContext>>,
    /// To be attached to the next answer to the leader.
    report: Option<Bytes>,
    /// What others have attached to theirs.
    reports: Vec<(MemberId, Bytes)>,
}

/// Proposals that are not committed yet may hold this much; past it they are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;
const MESSAGE_BYTES_MAX: u64 = 512 << 10;
const COMMITTED_BYTES_PER_ROUND_MAX: u64 = 16 << 20;
/// Appends under way to one member. What is proposed while so many are leaves together with the next, so that batches grow
/// with the load: every message wakes threads at both ends.
const INFLIGHT_MESSAGES_MAX: usize = 4;
/// With more than this on its way to a quorum, what is committed is told with the next entries, or once less is.
const UNCOMMITTED_ENTRIES_BUSY: u64 = 32;
/// Reads of other members that wait for this member's next round as a leader; more are dropped, and asked again.
const EARLY_READS_OF_OTHERS_MAX: usize = 1024;

const READ_PREFIX_BYTES: usize = 8;
/// The context of an append that only tells a commit index, to a member whose other answers tell how far it is: it need not
/// answer. Whoever does not know this, as etcd, answers, and that does no harm.
const NEEDS_NO_ANSWER: &[u8] = b"quiet";

impl Driver {
    /// Continues from what was restored.
    ///
    /// # Errors
    /// If the restored parts contradict each other.
    pub fn new(config: DriverConfig, restored: Restored, mut rng: Box<dyn Rng>) -> Result<Driver, ConsensusError> {
        let raft_config = Config {
            id: config.id.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: restored.applied.0.0,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: config.pre_vote,
            batch_append: true,
            skip_bcast_commit: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_ROUND_MAX,
            ..Config::default()
        };
        let hard_state = hard_state(&restored);
        let written_vote = (hard_state.term, hard_state.vote);
        let mut store = LogStore::new(
            raft::eraftpb::HardState {
                term: hard_state.term.0,
                vote: hard_state.vote.0,
                commit: hard_state.commit.0,
                ..Default::default()
            },
            to_conf_state(&restored.voters, &restored.learners),
            restored.terms.iter().map(|(index, term)| (index.0, term.0)),
            restored.before_first.0,
            &restored.entries.into_iter().map(to_entry).collect::<Vec<_>>(),
        );
        store.trim(restored.applied.0.0, config.kept_entries_max, config.kept_bytes_max);
        let mut node = RawNode::new(&raft_config, store, &logger())?;
        let read_prefix = rng.next_u64().to_be_bytes();
        let timeout = ElectionTimeout::new(rng, &mut node);
        let mut driver = Driver {
            node,
            timeout,
            config,
            status: Status::default(),
            now: 0,
            read_prefix,
            reads: VecDeque::new(),
            early_reads: Vec::new(),
            early_reads_of_others: Vec::new(),
            lazy_hard_state: None,
            written_vote,
            held: Held::default(),
            told_commit: 0,
            leading: None,
            tells: Vec::new(),
            prompt: Vec::new(),
            fetching: BTreeMap::new(),
            report: None,
            reports: Vec::new(),
        };
        driver.status = driver.observe();
        Ok(driver)
    }

    /// One heartbeat unit of time has passed.
    pub fn tick(&mut self) {
        self.now += 1;
        self.prompt.clear();
        let waits = self.is_restoring()
            || (self.is_only_voter() && !self.may_campaign() && self.node.raft.state != StateRole::Leader);
        if !waits {
            self.node.tick();
        }
        self.timeout.settle(&mut self.node);
    }

    /// Counts as if most of an election timeout had passed in silence: a member that has just started has no leader to wait
    /// for, or hears of one within two ticks.
    pub fn skip_silence(&mut self) {
        let raft = &mut self.node.raft;
        raft.election_elapsed = raft.election_elapsed.max(self.config.election_ticks.saturating_sub(2));
        self.timeout.settle(&mut self.node);
    }

    /// Starts an election now, if this member may vote and does not lead. A single voter need not wait for a timeout:
    /// there is nobody to disturb.
    pub fn campaign(&mut self) {
        if !self.may_campaign() {
            return;
        }
        if let Err(error) = self.node.campaign() {
            tracing::debug!(%error, "campaign refused");
        }
        self.timeout.settle(&mut self.node);
    }

    /// raft-rs takes for granted that the only voter, whom nobody can hold up, has its log on disk when it becomes leader.
    fn may_campaign(&self) -> bool {
        self.node.raft.promotable() && !self.is_restoring() && (!self.is_only_voter() || self.held.is_settled())
    }

    /// Whether a snapshot has taken the place of the log, and its state is not in place yet. Meanwhile this member does not
    /// campaign: raft-rs looks for changes of the voters after the applied index first, where there are no entries any
    /// more, and panics.
    fn is_restoring(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.applied + 1 < log.first_index()
    }

    /// Whether this member is the only voter, so that [`Driver::campaign`] is sure to win.
    pub fn is_only_voter(&self) -> bool {
        let voters = self.node.raft.prs().conf().voters();
        voters.contains(self.config.id.0) && voters.ids().len() == 1
    }

    /// The connection to `leader` broke in a way that suggests it is gone. If this member follows it, it does so no
    /// longer: it votes for others at once instead of after an election timeout, and the caller may let it
    /// [`Driver::campaign`]. A leader that lives is followed again with its next message. Returns whether it was followed.
    pub fn leader_is_gone(&mut self, leader: MemberId) -> bool {
        let raft = &mut self.node.raft;
        let was_followed = raft.state == StateRole::Follower && raft.leader_id == leader.0 && leader != MemberId(0);
        if was_followed {
            let term = raft.term;
            raft.become_follower(term, 0);
            self.timeout.settle(&mut self.node);
        }
        was_followed
    }

    /// Appends `data` as normal entries, all or none; a follower hands them on to the leader, and they may be lost on the
    /// way.
    ///
    /// # Errors
    /// [`ProposeError`]; then nothing was appended or handed on.
    pub fn propose(&mut self, data: impl IntoIterator<Item = Bytes>) -> Result<(), ProposeError> {
        let entries = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect::<Vec<_>>();
        self.propose_entries(entries)
    }

    /// Appends one change of the voters: `data` is an encoded `raftpb.ConfChange`. The leader puts an empty entry in its
    /// place if an earlier change is not applied yet.
    ///
    /// # Errors
    /// [`ProposeError`]; then nothing was appended.
    pub fn propose_conf_change(&mut self, data: Bytes) -> Result<(), ProposeError> {
        let change = LogEntry { term: Term(0), index: Index(0), kind: EntryKind::ConfChange, data };
        self.propose_entries(vec![to_entry(change)])
    }

    /// Whether everything that is known to be committed has been applied, so that the voters are those that count.
    pub fn has_applied_all(&self) -> bool {
        self.node.raft.raft_log.applied >= self.node.raft.raft_log.committed
    }

    /// Whether a change of the voters that this leader has in its log may not be applied yet. Another one proposed now would
    /// be replaced by an empty entry.
    pub fn has_pending_conf_change(&self) -> bool {
        self.leads() && self.node.raft.has_pending_conf()
    }

    /// The term this member is in.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Whether this member leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether there is a leader to propose to, who is not handing leadership over.
    pub fn takes_proposals(&self) -> bool {
        self.node.raft.leader_id != 0 && self.node.raft.lead_transferee.is_none()
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), ProposeError> {
        if !self.takes_proposals() {
            return Err(ProposeError::NoLeader);
        }
        let mut message = raft::eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id.0;
        message.set_entries(entries.into());
        self.node.raft.step(message).map_err(|_| ProposeError::Dropped)
    }

    /// Takes a message from another member. One that no sound member sends is dropped.
    ///
    /// # Errors
    /// [`ConsensusError::LogLost`]: this member must not go on.
    pub fn step(&mut self, message: Message) -> Result<(), ConsensusError> {
        match guard::check(&message, &self.standing()) {
            Verdict::Take => {}
            Verdict::Drop(why) => {
                tracing::debug!(from = %message.from, kind = ?message.kind, why, "message dropped");
                return Ok(());
            }
            Verdict::LogLost => {
                let last = self.last_index();
                return Err(ConsensusError::LogLost { leader: message.from, known: message.commit, last });
            }
        }
        if message.kind == MessageKind::AppendResponse && !message.context.is_empty() {
            self.reports.push((message.from, message.context.clone()));
        }
        if message.kind == MessageKind::TimeoutNow && !self.may_campaign() {
            return Ok(());
        }
        let leads = self.node.raft.state == StateRole::Leader;
        if message.kind == MessageKind::ReadIndex && leads && self.is_quorum_with(message.from) {
            self.answer_at_once(message);
            return Ok(());
        }
        if message.kind == MessageKind::ReadIndex && leads && !self.read_round_may_begin() {
            if self.early_reads_of_others.len() < EARLY_READS_OF_OTHERS_MAX {
                self.early_reads_of_others.push(message);
            }
            return Ok(());
        }
        if message.kind == MessageKind::Vote && message.term.0 < self.node.raft.term {
            self.tell_own_term(&message);
            return Ok(());
        }
        self.note_prompt(&message);
        self.step_raft(message);
        Ok(())
    }

    /// A candidate of an earlier term is refused in words, as in Raft's paper; raft-rs says nothing. Without PreVote it could
    /// otherwise be behind for ever: this member may not know it, and then never asks it for a vote.
    fn tell_own_term(&mut self, question: &Message) {
        let term = Term(self.node.raft.term);
        let answer = Message::new(MessageKind::VoteResponse, self.config.id, question.from);
        self.held.send_at_once([Message { term, reject: true, ..answer }]);
    }

    /// Only voters count towards a quorum, and an answer to an earlier term's leader says nothing of now.
    fn note_prompt(&mut self, message: &Message) {
        let (raft, from) = (&self.node.raft, message.from.0);
        let answers_now = message.kind == MessageKind::HeartbeatResponse && message.term.0 == raft.term;
        let is_voter = raft.prs().conf().voters().contains(from);
        if answers_now && raft.state == StateRole::Leader && is_voter && !self.prompt.contains(&from) {
            self.prompt.push(from);
        }
    }

    fn step_raft(&mut self, message: Message) {
        let (from, kind) = (message.from, message.kind);
        let needs_no_answer = kind == MessageKind::Append && message.context == NEEDS_NO_ANSWER;
        let before = self.node.raft.msgs.len();
        if let Err(error) = self.node.step(to_message(message)) {
            tracing::debug!(%from, ?kind, %error, "message refused");
        }
        if needs_no_answer {
            // A refusal is an answer that is needed.
            let is_left_out = |answer: &mut raft::eraftpb::Message| {
                answer.msg_type == MessageType::MsgAppendResponse && !answer.reject && answer.to == from.0
            };
            self.node.raft.msgs.extract_if(before.., is_left_out).for_each(drop);
        }
        self.timeout.settle(&mut self.node);
    }

    fn standing(&self) -> Standing {
        let raft = &self.node.raft;
        let committed = raft.raft_log.committed;
        Standing {
            me: self.config.id,
            term: Term(raft.term),
            last: Index(raft.raft_log.last_index()),
            committed: Index(committed),
            committed_term: raft.raft_log.term(committed).ok().map(Term),
        }
    }

    /// Messages to `member` were lost: it is sent to with care until it answers.
    pub fn unreachable(&mut self, member: MemberId) {
        self.node.report_unreachable(member.0);
        if self.prompt.contains(&member.0) {
            self.hurry_reads();
        }
    }

    /// The snapshot that was sent to `member` is there, or failed to get there.
    pub fn snapshot_sent(&mut self, member: MemberId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(member.0, status);
    }

    /// Hands leadership over to `member`, within an election timeout or not at all; proposals wait meanwhile. Does
    /// nothing at a member that does not lead.
    pub fn transfer_leader(&mut self, member: MemberId) {
        if self.node.raft.state == StateRole::Leader {
            self.node.transfer_leader(member.0);
        }
    }

    /// Asks for a point in the log that every write acknowledged so far lies at or before. The answer is
    /// [`Effect::ReadReady`] or [`Effect::ReadsDropped`] with `context`, which must not have been used
    /// since the start. While there is no leader, there is no answer.
    pub fn read_index(&mut self, context: u64) {
        self.early_reads.push(context);
    }

    /// Everything up to the [`Effect::Persist`] or [`Effect::Restore`] of this number is on disk.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.held.on_disk(number);
    }

    /// Everything up to `index` has been applied.
    pub fn applied(&mut self, index: Index) {
        let log = &self.node.raft.raft_log;
        // The state may be ahead of what raft has been told is on disk, by a snapshot.
        let known = index.0.min(log.committed).min(log.persisted).max(log.applied);
        self.node.advance_apply_to(known);
        let (count, bytes) = (self.config.kept_entries_max, self.config.kept_bytes_max);
        self.node.mut_store().trim(known, count, bytes);
    }

    /// What [`Effect::Fetch`] asked for: entries from `from` on without a gap, none if the log has let go of them.
    pub fn fetched(&mut self, from: Index, entries: Vec<LogEntry>) {
        let Some(contexts) = self.fetching.remove(&from.0) else { return };
        let store = self.node.mut_store();
        if entries.is_empty() {
            store.released_before(from.0 + 1);
        } else {
            store.hold_fetched(from.0, entries.into_iter().map(to_entry).collect());
        }
        for context in contexts {
            self.node.on_entries_fetched(context);
        }
        self.node.mut_store().drop_fetched();
    }

    /// The log on disk holds nothing before `first` any more.
    pub fn log_released(&mut self, first: Index) {
        self.node.mut_store().released_before(first.0);
    }

    /// Attaches `report` to the next answer to the leader, who gets it as [`Effect::Report`]. It may be lost.
    pub fn set_report(&mut self, report: Bytes) {
        self.report = Some(report);
    }

    /// A change of the voters has been applied to the membership: now it holds for elections and commits too.
    /// Returns voters and learners as they are from here on.
    ///
    /// # Errors
    /// If raft refuses what the membership accepted: the member stops.
    pub fn conf_changed(&mut self, change: VoterChange) -> Result<(Vec<MemberId>, Vec<MemberId>), ConsensusError> {
        let mut raft_change = ConfChange::default();
        let (kind, member) = match change {
            VoterChange::AddVoter(member) => (ConfChangeType::AddNode, member),
            VoterChange::AddLearner(member) => (ConfChangeType::AddLearnerNode, member),
            VoterChange::Remove(member) => (ConfChangeType::RemoveNode, member),
            VoterChange::Refused => (ConfChangeType::AddNode, MemberId(0)),
        };
        raft_change.set_change_type(kind);
        raft_change.node_id = member.0;
        if change == VoterChange::Remove(self.config.id) {
            self.abdicate();
        }
        let state = self.node.apply_conf_change(&raft_change)?;
        self.node.mut_store().set_conf_state(state.clone());
        self.timeout.settle(&mut self.node);
        Ok(from_conf_state(&state))
    }

    /// Leads no longer, and asks whoever is furthest to campaign at once: raft-rs panics when a leader that is no member any
    /// more gets entries on disk or committed.
    fn abdicate(&mut self) {
        let heir = self.progress().into_iter().filter(|other| !other.is_learner).max_by_key(|other| other.matched);
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let term = raft.term;
        raft.become_follower(term, 0);
        self.timeout.settle(&mut self.node);
        self.held.send_at_once(heir.map(|heir| Message {
            term: Term(term),
            ..Message::new(MessageKind::TimeoutNow, self.config.id, heir.member)
        }));
    }

    /// Appends to `effects` everything that is to be done now.
    pub fn drain(&mut self, effects: &mut Vec<Effect>) {
        self.ask_reads();
        self.tell_commit();
        while self.node.has_ready() {
            self.take_ready(effects);
        }
        self.timeout.settle(&mut self.node);
        let messages = self.held.take_ready();
        if !messages.is_empty() {
            // Before whatever else: an answer that waited for the disk, or a leader's messages, which need not wait.
            effects.insert(0, Effect::Send(messages));
        }
        self.ask_for_entries(effects);
        if !self.tells.is_empty() {
            effects.push(Effect::Tell(std::mem::take(&mut self.tells)));
        }
        effects.extend(self.reports.drain(..).map(|(from, report)| Effect::Report { from, report }));
        self.note_status(effects);
    }

    /// Tells the others what is committed. Under load the entries that follow tell it soon.
    fn tell_commit(&mut self) {
        let raft = &mut self.node.raft;
        let committed = raft.raft_log.committed;
        if raft.state != StateRole::Leader || committed <= self.told_commit {
            return;
        }
        if raft.raft_log.last_index() - committed > UNCOMMITTED_ENTRIES_BUSY {
            return;
        }
        let before = raft.msgs.len();
        raft.bcast_append();
        self.told_commit = committed;
        for message in raft.msgs.split_off(before) {
            let is_in_step =
                raft.prs().get(message.to).is_some_and(|progress| progress.state == ProgressState::Replicate);
            let only_tells = message.msg_type == MessageType::MsgAppend && message.entries.is_empty() && is_in_step;
            if only_tells {
                let tell =
                    from_message(message).map(|tell| Message { context: Bytes::from_static(NEEDS_NO_ANSWER), ..tell });
                self.tells.extend(tell);
            } else {
                raft.msgs.push(message);
            }
        }
    }

    fn take_ready(&mut self, effects: &mut Vec<Effect>) {
        let mut ready = self.node.ready();
        for state in ready.take_read_states() {
            self.answer_read(&state.request_ctx, Index(state.index), effects);
        }
        let number = ready.number();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        if let Some(snapshot) = &snapshot {
            let meta = snapshot.get_metadata();
            self.node.mut_store().reset(meta.index, meta.term, meta.get_conf_state().clone());
        }
        self.node.mut_store().append(ready.entries());
        let must_sync = ready.must_sync();
        let entries = ready.take_entries().into_iter().map(from_entry).collect::<Vec<_>>();
        if let Some(hard_state) = ready.hs() {
            self.lazy_hard_state = Some(from_hard_state(hard_state));
        }
        let committed = ready.take_committed_entries();
        let (at_once, when_safe) = (ready.take_messages(), ready.take_persisted_messages());
        self.node.advance_append_async(ready);
        if must_sync {
            let hard_state = self.lazy_hard_state.take();
            let vote = hard_state.map_or(self.written_vote, |state| (state.term, state.vote));
            self.held.hand_out(number, vote != self.written_vote || snapshot.is_some());
            self.written_vote = vote;
            effects.push(match &snapshot {
                Some(snapshot) => Effect::Restore { number, snapshot: from_snapshot(snapshot), entries, hard_state },
                None => Effect::Persist { number, entries, hard_state },
            });
        }
        self.held.send_at_once(at_once.into_iter().filter_map(from_message));
        let mut when_safe = when_safe.into_iter().filter_map(from_message).collect::<Vec<_>>();
        self.attach_report(&mut when_safe);
        self.held.send_when_safe(when_safe);
        if let Some(last) = committed.last() {
            let term = last.term;
            effects.push(Effect::Apply(committed.into_iter().map(from_entry).collect()));
            if self.leads() && term == self.node.raft.term && self.leading != Some(term) {
                self.leading = Some(term);
                effects.push(Effect::Leading(true));
            }
        }
    }

    fn attach_report(&mut self, messages: &mut [Message]) {
        let is_answer = |message: &&mut Message| message.kind == MessageKind::AppendResponse && !message.reject;
        if self.report.is_some()
            && let Some(answer) = messages.iter_mut().find(is_answer)
        {
            answer.context = self.report.take().unwrap_or_default();
        }
    }

    fn ask_for_entries(&mut self, effects: &mut Vec<Effect>) {
        for wanted in self.node.mut_store().take_wanted() {
            let contexts = self.fetching.entry(wanted.low).or_default();
            if contexts.is_empty() {
                effects.push(Effect::Fetch {
                    from: Index(wanted.low),
                    to: Index(wanted.high),
                    limit_bytes: wanted.limit_bytes,
                });
            }
            contexts.push(wanted.context);
        }
    }

    /// Where consensus stands.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The last index of the log.
    pub fn last_index(&self) -> Index {
        Index(self.node.raft.raft_log.last_index())
    }

    /// How far the other members are, by id; empty at a member that does not lead.
    pub fn progress(&self) -> Vec<Progress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let mut all = raft
            .prs()
            .iter()
            .filter(|(id, _)| **id != self.config.id.0)
            .map(|(&id, progress)| Progress {
                member: MemberId(id),
                matched: Index(progress.matched),
                needs: Index(progress.matched.max(progress.pending_snapshot) + 1),
                is_active: progress.recent_active,
                is_learner: raft.prs().conf().learners().contains(&id),
            })
            .collect::<Vec<_>>();
        all.sort_unstable_by_key(|progress| progress.member);
        all
    }

    /// Whom this member voted for in its term; `MemberId(0)` if for nobody.
    pub fn vote(&self) -> MemberId {
        MemberId(self.node.raft.vote)
    }

    /// How far all members are, this one included, by id; empty at a member that does not lead.
    pub fn log_progress(&self) -> Vec<LogProgress> {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return Vec::new();
        }
        let sending = |state| match state {
            ProgressState::Probe => Sending::Probe,
            ProgressState::Replicate => Sending::Replicate,
            ProgressState::Snapshot => Sending::Snapshot,
        };
        let of_one = |(&id, progress): (&u64, &raft::Progress)| LogProgress {
            member: MemberId(id),
            matched: Index(progress.matched),
            next: Index(progress.next_idx),
            sending: sending(progress.state),
        };
        let mut all = raft.prs().iter().map(of_one).collect::<Vec<_>>();
        all.sort_unstable_by_key(|progress| progress.member);
        all
    }

    /// The voters, sorted.
    pub fn voters(&self) -> Vec<MemberId> {
        from_conf_state(&self.node.raft.prs().conf().to_conf_state()).0
    }

    fn ask_reads(&mut self) {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        if !leads {
            self.early_reads_of_others.clear();
        }
        if raft.leader_id == 0 || (leads && !self.read_round_may_begin()) {
            return;
        }
        let before = self.node.raft.msgs.len();
        for context in std::mem::take(&mut self.early_reads) {
            self.node.read_index([self.read_prefix, context.to_be_bytes()].concat());
            self.reads.push_back((context, self.now));
        }
        for message in std::mem::take(&mut self.early_reads_of_others) {
            self.step_raft(message);
        }
        if leads {
            self.ask_few(before);
        }
    }

    /// Of the read rounds among raft's messages from `before` on, leaves those to as many members as make a quorum with this
    /// one. They are the promptest since the last tick; until there are enough of them, all are asked.
    fn ask_few(&mut self, before: usize) {
        let raft = &mut self.node.raft;
        let voters = raft.prs().conf().voters();
        let needed = voters.ids().len() / 2;
        let asked = self.prompt.iter().copied().filter(|&id| voters.contains(id)).take(needed).collect::<Vec<_>>();
        if asked.len() < needed {
            return;
        }
        let is_left_out = |message: &mut raft::eraftpb::Message| {
            message.msg_type == MessageType::MsgHeartbeat && !asked.contains(&message.to)
        };
        raft.msgs.extract_if(before.., is_left_out).for_each(drop);
    }

    /// The read round that is under way takes long: whoever was not asked is asked as well. Every tick does the same.
    pub fn hurry_reads(&mut self) {
        self.prompt.clear();
        if self.node.raft.read_only.pending_read_count() > 0 {
            self.node.ping();
        }
    }

    /// Whether this leader and `other` are a quorum, and its commit index is that of its own term.
    ///
    /// Then a read that `other` asks for needs nobody else's word. Had another leader committed a write before the read
    /// came to `other`, a quorum would have voted for it by then, and one of the two with it. `other` would have been in
    /// the later term when it asked, and taken this member for its leader no more; and this member would not lead now.
    fn is_quorum_with(&self, other: MemberId) -> bool {
        let raft = &self.node.raft;
        let voters = raft.prs().conf().voters();
        let are_voters = voters.contains(self.config.id.0) && voters.contains(other.0);
        raft.commit_to_current_term() && are_voters && voters.ids().len() <= 3
    }

    fn answer_at_once(&mut self, question: Message) {
        let raft = &self.node.raft;
        self.held.send_at_once([Message {
            term: Term(raft.term),
            index: Index(raft.raft_log.committed),
            entries: question.entries,
            ..Message::new(MessageKind::ReadIndexResponse, self.config.id, question.from)
        }]);
    }

    /// Whether this leader may ask the others whether it still leads: not before its first commit; and while it does, whoever
    /// comes shares the next round. A round that gets lost is repeated with every heartbeat.
    fn read_round_may_begin(&self) -> bool {
        let raft = &self.node.raft;
        raft.commit_to_current_term() && raft.read_only.pending_read_count() == 0
    }

    fn answer_read(&mut self, context: &[u8], index: Index, effects: &mut Vec<Effect>) {
        let Some((prefix, context)) = context.split_first_chunk() else { return };
        let Ok(context) = context.try_into().map(u64::from_be_bytes) else { return };
        if *prefix != self.read_prefix {
            return;
        }
        if let Some(at) = self.reads.iter().position(|&(waiting, _)| waiting == context) {
            self.reads.remove(at);
            effects.push(Effect::ReadReady { context, index });
        }
    }

    /// Reads that were asked for before this many ticks have been lost on the way.
    fn read_ticks_max(&self) -> u64 {
        (self.config.election_ticks as u64 / 2).max(1)
    }

    fn note_status(&mut self, effects: &mut Vec<Effect>) {
        let status = self.observe();
        let moved =
            (status.role, status.term, status.leader) != (self.status.role, self.status.term, self.status.leader);
        if moved {
            self.prompt.clear();
        }
        let overdue = self.now.checked_sub(self.read_ticks_max());
        let is_lost = |asked: u64| moved || overdue.is_some_and(|overdue| asked <= overdue);
        let lost = self.reads.partition_point(|(_, asked)| is_lost(*asked));
        let dropped = self.reads.drain(..lost).map(|(context, _)| context).collect::<Vec<_>>();
        if !dropped.is_empty() {
            effects.push(Effect::ReadsDropped(dropped));
        }
        if status != self.status {
            self.status = status;
            effects.push(Effect::StatusChanged(status));
        }
        if self.leading.is_some_and(|term| !self.leads() || term != status.term.0) {
            self.leading = None;
            effects.push(Effect::Leading(false));
        }
    }

    fn observe(&self) -> Status {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let leads_in_term = role == Role::Leader && raft.commit_to_current_term();
        Status {
            role,
            term: Term(raft.term),
            leader: MemberId(raft.leader_id),
            commit: Index(raft.raft_log.committed),
            leads_in_term,
            sole_voter: leads_in_term && self.is_only_voter(),
            transferee: MemberId(raft.lead_transferee.unwrap_or(0)),
        }
    }
}

/// What was applied was committed, even if the hard state on disk does not say so yet. A later term than the disk's came
/// with a snapshot: nobody was voted for in it.
fn hard_state(restored: &Restored) -> HardState {
    let found = restored.hard_state;
    let commit = found.commit.max(restored.applied.0);
    if restored.applied.1 > found.term {
        return HardState { term: restored.applied.1, vote: MemberId(0), commit };
    }
    HardState { commit, ..found }
}

#[cfg(test)]
mod tests;
