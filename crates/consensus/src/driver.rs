//! The driver: raft-rs between events and effects.

use std::collections::VecDeque;

use bytes::Bytes;
use env::Rng;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use types::{EntryKind, HardState, Index, LogEntry, MemberId, Term};

use crate::effect::{Effect, Role, Status, VoterChange};
use crate::election_timeout::ElectionTimeout;
use crate::log_store::LogStore;
use crate::logger::logger;

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
    /// The entry before `entries`, and its term.
    pub before_first: (Index, Term),
    pub entries: Vec<LogEntry>,
}

/// The driver cannot go on; the member stops.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

/// A proposal that was not taken into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Ask the leader; `MemberId(0)` if there is none.
    #[error("not leader, the leader is {0}")]
    NotLeader(MemberId),
    /// Leadership is being handed over, or too much is waiting to be committed.
    #[error("proposal dropped")]
    Dropped,
}

/// One member's consensus.
pub struct Driver {
    node: RawNode<LogStore>,
    timeout: ElectionTimeout,
    config: DriverConfig,
    status: Status,
    /// Contexts of reads that raft was asked for and has not answered yet, in order.
    reads: VecDeque<u64>,
    /// Contexts of reads that wait for the leader's first commit of its term; raft would drop them until then.
    early_reads: Vec<u64>,
    /// A hard state that differs from the one on disk only in its commit index: it is written with the next batch.
    lazy_hard_state: Option<HardState>,
}

/// Proposals that are not committed yet may hold this much; past it they are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;
const MESSAGE_BYTES_MAX: u64 = 512 << 10;
const COMMITTED_BYTES_PER_ROUND_MAX: u64 = 16 << 20;
const INFLIGHT_MESSAGES_MAX: usize = 512;

impl Driver {
    /// Continues from what was restored.
    ///
    /// # Errors
    /// If the restored parts contradict each other.
    pub fn new(config: DriverConfig, restored: Restored, rng: Box<dyn Rng>) -> Result<Driver, ConsensusError> {
        let raft_config = Config {
            id: config.id.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: restored.applied.0.0,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: config.pre_vote,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_ROUND_MAX,
            ..Config::default()
        };
        let store = LogStore::new(
            to_raft_hard_state(&restored),
            to_raft_conf_state(&restored),
            (restored.before_first.0.0, restored.before_first.1.0),
            restored.entries.into_iter().map(to_raft_entry).collect(),
        );
        let mut node = RawNode::new(&raft_config, store, &logger())?;
        let timeout = ElectionTimeout::new(rng, &mut node);
        let mut driver = Driver {
            node,
            timeout,
            config,
            status: Status::default(),
            reads: VecDeque::new(),
            early_reads: Vec::new(),
            lazy_hard_state: None,
        };
        driver.status = driver.observe();
        Ok(driver)
    }

    /// One heartbeat unit of time has passed.
    pub fn tick(&mut self) {
        self.node.tick();
        self.timeout.settle(&mut self.node);
    }

    /// Starts an election now. A single voter need not wait for a timeout: there is nobody to disturb.
    pub fn campaign(&mut self) {
        if let Err(error) = self.node.campaign() {
            tracing::debug!(%error, "campaign refused");
        }
        self.timeout.settle(&mut self.node);
    }

    /// Whether this member is the only voter, so that [`Driver::campaign`] is sure to win.
    pub fn is_only_voter(&self) -> bool {
        let voters = self.node.raft.prs().conf().voters();
        voters.contains(self.config.id.0) && voters.ids().len() == 1
    }

    /// Appends `data` as normal entries, all or none.
    ///
    /// # Errors
    /// [`ProposeError`]; then nothing was appended.
    pub fn propose(&mut self, data: impl IntoIterator<Item = Bytes>) -> Result<(), ProposeError> {
        let entries = data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect::<Vec<_>>();
        self.propose_entries(entries)
    }

    /// Appends one change of the voters: `data` is an encoded `raftpb.ConfChange`.
    ///
    /// # Errors
    /// [`ProposeError`]; then nothing was appended.
    pub fn propose_conf_change(&mut self, data: Bytes) -> Result<(), ProposeError> {
        let entry = Entry { data, entry_type: EntryType::EntryConfChange, ..Entry::default() };
        self.propose_entries(vec![entry])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader(MemberId(self.node.raft.leader_id)));
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id.0;
        message.set_entries(entries.into());
        self.node.raft.step(message).map_err(|_| ProposeError::Dropped)
    }

    /// Asks for a point in the log that every write acknowledged so far lies at or before. The answer is
    /// [`Effect::ReadReady`] or [`Effect::ReadsDropped`] with `context`, which must never have been used before.
    pub fn read_index(&mut self, context: u64) {
        self.early_reads.push(context);
    }

    /// Everything up to the [`Effect::Persist`] of this number is on disk.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Everything up to `index` has been applied.
    pub fn applied(&mut self, index: Index) {
        self.node.advance_apply_to(index.0);
        let (count, bytes) = (self.config.kept_entries_max, self.config.kept_bytes_max);
        self.node.mut_store().trim(index.0, count, bytes);
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
        let state = self.node.apply_conf_change(&raft_change)?;
        self.timeout.settle(&mut self.node);
        // raft-rs keeps them in hash sets, whose order must not reach anybody.
        let sorted = |mut ids: Vec<u64>| {
            ids.sort_unstable();
            ids.into_iter().map(MemberId).collect()
        };
        Ok((sorted(state.voters), sorted(state.learners)))
    }

    /// Appends to `effects` everything that is to be done now.
    pub fn drain(&mut self, effects: &mut Vec<Effect>) {
        self.ask_reads(effects);
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            for state in ready.take_read_states() {
                self.answer_read(&state.request_ctx, Index(state.index), effects);
            }
            self.node.mut_store().append(ready.entries());
            let must_sync = ready.must_sync();
            let entries = ready.take_entries();
            if let Some(hard_state) = ready.hs() {
                self.lazy_hard_state = Some(from_raft_hard_state(hard_state));
            }
            let committed = ready.take_committed_entries();
            let messages = ready.messages().len() + ready.persisted_messages().len();
            if messages > 0 {
                // A cluster of one has nobody to send to.
                tracing::warn!(messages, "messages to other members dropped: there is no peer transport yet");
            }
            let number = ready.number();
            self.node.advance_append_async(ready);
            if must_sync {
                let entries = entries.into_iter().map(from_raft_entry).collect();
                effects.push(Effect::Persist { number, entries, hard_state: self.lazy_hard_state.take() });
            }
            if !committed.is_empty() {
                effects.push(Effect::Apply(committed.into_iter().map(from_raft_entry).collect()));
            }
        }
        self.timeout.settle(&mut self.node);
        self.note_status(effects);
    }

    /// Where consensus stands.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The last index of the log.
    pub fn last_index(&self) -> Index {
        Index(self.node.raft.raft_log.last_index())
    }

    fn ask_reads(&mut self, effects: &mut Vec<Effect>) {
        if self.early_reads.is_empty() {
            return;
        }
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            effects.push(Effect::ReadsDropped(std::mem::take(&mut self.early_reads)));
        } else if raft.commit_to_current_term() {
            for context in self.early_reads.drain(..) {
                self.node.read_index(context.to_be_bytes().to_vec());
                self.reads.push_back(context);
            }
        }
    }

    fn answer_read(&mut self, context: &[u8], index: Index, effects: &mut Vec<Effect>) {
        let Ok(context) = context.try_into().map(u64::from_be_bytes) else { return };
        if let Some(at) = self.reads.iter().position(|&waiting| waiting == context) {
            self.reads.remove(at);
            effects.push(Effect::ReadReady { context, index });
        }
    }

    fn note_status(&mut self, effects: &mut Vec<Effect>) {
        let status = self.observe();
        let reads_are_lost = status.role != Role::Leader || status.term != self.status.term;
        if reads_are_lost && !self.reads.is_empty() {
            effects.push(Effect::ReadsDropped(self.reads.drain(..).collect()));
        }
        if status != self.status {
            self.status = status;
            effects.push(Effect::StatusChanged(status));
        }
    }

    fn observe(&self) -> Status {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        Status {
            role,
            term: Term(raft.term),
            leader: MemberId(raft.leader_id),
            commit: Index(raft.raft_log.committed),
            sole_voter: role == Role::Leader && self.is_only_voter() && raft.commit_to_current_term(),
        }
    }
}

fn to_raft_hard_state(restored: &Restored) -> raft::eraftpb::HardState {
    // What was applied was committed, even if the hard state on disk does not say so yet.
    let commit = restored.hard_state.commit.max(restored.applied.0);
    raft::eraftpb::HardState {
        term: restored.hard_state.term.0.max(restored.applied.1.0),
        vote: restored.hard_state.vote.0,
        commit: commit.0,
        ..Default::default()
    }
}

fn to_raft_conf_state(restored: &Restored) -> ConfState {
    let ids = |members: &[MemberId]| members.iter().map(|member| member.0).collect();
    ConfState { voters: ids(&restored.voters), learners: ids(&restored.learners), ..Default::default() }
}

fn to_raft_entry(entry: LogEntry) -> Entry {
    let entry_type = match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::ConfChange => EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    };
    Entry { entry_type, term: entry.term.0, index: entry.index.0, data: entry.data, ..Entry::default() }
}

fn from_raft_entry(entry: Entry) -> LogEntry {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange => EntryKind::ConfChange,
        EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    };
    LogEntry { term: Term(entry.term), index: Index(entry.index), kind, data: entry.data }
}

fn from_raft_hard_state(state: &raft::eraftpb::HardState) -> HardState {
    HardState { term: Term(state.term), vote: MemberId(state.vote), commit: Index(state.commit) }
}

#[cfg(test)]
mod tests {
    use env::SystemRng;

    use super::*;

    const ME: MemberId = MemberId(7);

    fn restored(voters: Vec<MemberId>) -> Restored {
        Restored {
            hard_state: HardState::default(),
            voters,
            learners: vec![],
            applied: (Index(0), Term(0)),
            before_first: (Index(0), Term(0)),
            entries: vec![],
        }
    }

    fn driver(restored: Restored) -> Driver {
        let config = DriverConfig {
            id: ME,
            heartbeat_ticks: 1,
            election_ticks: 10,
            pre_vote: true,
            kept_entries_max: 100,
            kept_bytes_max: 1 << 20,
        };
        Driver::new(config, restored, Box::new(SystemRng::with_seed(1))).unwrap()
    }

    /// Carries effects out as a perfect disk and machine would; returns the data applied, in order.
    fn run(driver: &mut Driver, seen: &mut Vec<Effect>) -> Vec<Bytes> {
        let mut applied = vec![];
        loop {
            let mut effects = vec![];
            driver.drain(&mut effects);
            if effects.is_empty() {
                return applied;
            }
            for effect in effects {
                match &effect {
                    Effect::Persist { number, .. } => driver.persisted(*number),
                    Effect::Apply(entries) => {
                        applied.extend(entries.iter().map(|entry| entry.data.clone()));
                        driver.applied(entries.last().unwrap().index);
                    }
                    _ => {}
                }
                seen.push(effect);
            }
        }
    }

    fn leader() -> Driver {
        let mut driver = driver(restored(vec![ME]));
        driver.campaign();
        run(&mut driver, &mut vec![]);
        driver
    }

    #[test]
    fn a_single_voter_leads_once_it_has_committed_in_its_term() {
        let driver = leader();
        let status = driver.status();
        assert_eq!((status.role, status.leader, status.sole_voter), (Role::Leader, ME, true));
    }

    #[test]
    fn nothing_is_applied_before_it_is_persisted() {
        let mut driver = leader();
        driver.propose([Bytes::from_static(b"a")]).unwrap();
        let mut effects = vec![];
        driver.drain(&mut effects);
        assert!(matches!(&effects[..], [Effect::Persist { entries, .. }] if entries.len() == 1), "{effects:?}");
        let Effect::Persist { number, .. } = effects[0] else { unreachable!() };
        driver.persisted(number);
        effects.clear();
        driver.drain(&mut effects);
        assert!(matches!(&effects[0], Effect::Apply(entries) if entries[0].data == "a"), "{effects:?}");
    }

    #[test]
    fn proposals_are_applied_in_order_across_batches() {
        let mut driver = leader();
        driver.propose(["a", "b"].map(|data| Bytes::from_static(data.as_bytes()))).unwrap();
        driver.propose([Bytes::from_static(b"c")]).unwrap();
        assert_eq!(run(&mut driver, &mut vec![]), ["a", "b", "c"]);
    }

    #[test]
    fn a_read_waits_for_the_first_commit_of_the_term() {
        let mut driver = driver(restored(vec![ME]));
        driver.campaign();
        driver.read_index(1);
        let mut effects = vec![];
        driver.drain(&mut effects);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::ReadReady { .. })));
        let mut seen = effects;
        for number in seen.iter().filter_map(|effect| match effect {
            Effect::Persist { number, .. } => Some(*number),
            _ => None,
        }) {
            driver.persisted(number);
        }
        run(&mut driver, &mut seen);
        run(&mut driver, &mut seen);
        assert!(
            seen.iter().any(|effect| matches!(effect, Effect::ReadReady { context: 1, index: Index(1) })),
            "{seen:?}"
        );
    }

    #[test]
    fn a_follower_refuses_proposals_and_drops_reads() {
        let mut driver = driver(restored(vec![ME, MemberId(8)]));
        assert_eq!(driver.propose([Bytes::new()]), Err(ProposeError::NotLeader(MemberId(0))));
        driver.read_index(9);
        let mut effects = vec![];
        driver.drain(&mut effects);
        assert!(matches!(&effects[..], [Effect::ReadsDropped(reads)] if reads == &[9]), "{effects:?}");
    }

    #[test]
    fn a_restart_continues_the_log_and_applies_only_what_is_new() {
        let entry = |index: u64, data: &'static str| LogEntry {
            term: Term(2),
            index: Index(index),
            kind: EntryKind::Normal,
            data: Bytes::from_static(data.as_bytes()),
        };
        let mut driver = driver(Restored {
            hard_state: HardState { term: Term(2), vote: ME, commit: Index(4) },
            applied: (Index(5), Term(2)),
            before_first: (Index(3), Term(2)),
            entries: vec![entry(4, "old"), entry(5, "old"), entry(6, "new")],
            ..restored(vec![ME])
        });
        driver.campaign();
        assert_eq!(run(&mut driver, &mut vec![]), ["new", ""]);
        assert_eq!(driver.status().term, Term(3));
    }

    #[test]
    fn a_refused_conf_change_changes_nothing() {
        let mut driver = leader();
        assert_eq!(driver.conf_changed(VoterChange::Refused).unwrap(), (vec![ME], vec![]));
        let (voters, _) = driver.conf_changed(VoterChange::AddVoter(MemberId(9))).unwrap();
        assert_eq!(voters, [ME, MemberId(9)], "sorted, whatever raft-rs's hash sets say");
        driver.drain(&mut vec![]);
        assert!(!driver.status().sole_voter);
    }

    #[test]
    fn election_timeouts_depend_on_the_seed_alone() {
        let ticks_to_candidacy = || {
            let mut driver = driver(restored(vec![ME, MemberId(8)]));
            let mut effects = vec![];
            (1..100).find(|_| {
                driver.tick();
                driver.drain(&mut effects);
                driver.status().role == Role::Candidate
            })
        };
        let first = ticks_to_candidacy();
        assert!(first.is_some_and(|ticks| (10..20).contains(&ticks)));
        for _ in 0..20 {
            assert_eq!(ticks_to_candidacy(), first);
        }
    }
}
