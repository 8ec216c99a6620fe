//! Leases while the lead goes from member to member: no lease ends before the time its client was told, none much later,
//! and members that have applied the same entries agree.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use backend::{Import, Options};
use lease::LessorOptions;
use machine::{Applied, MachineOptions};
use proptest::prelude::*;
use types::{EntryKind, Index, LeaseId, LogEntry, Term};

use crate::harness::{Member, at, encode, grant, options, put_leased, revoke};

/// What a new leader adds to every deadline.
const EXTENSION: u64 = 1;
const CHECKPOINT_INTERVAL: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Put(u8, i64),
    Renew(i64),
    /// Time passes, and the leader looks for what has run out.
    Wait(u64),
    /// The leader applies what it has proposed; the other one some of it.
    Apply(usize),
    Lead(usize),
    /// A member starts again from what it has committed.
    Restart(usize),
    /// The one that follows is handed the leader's state.
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..5_i64;
    prop_oneof![
        3 => (id(), 1..40_i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        2 => (0..4_u8, id()).prop_map(|(key, id)| Step::Put(key, id)),
        4 => id().prop_map(Step::Renew),
        6 => (0..8_u64).prop_map(Step::Wait),
        4 => (0..6_usize).prop_map(Step::Apply),
        2 => (0..2_usize).prop_map(Step::Lead),
        1 => (0..2_usize).prop_map(Step::Restart),
        1 => Just(Step::HandOver),
    ]
}

fn lease_options(persist_checkpoints: bool) -> MachineOptions {
    let checkpoint_interval = Some(Duration::from_secs(CHECKPOINT_INTERVAL));
    MachineOptions { lessor: LessorOptions { ttl_min: 2, checkpoint_interval }, persist_checkpoints, ..options() }
}

struct Cluster {
    options: MachineOptions,
    members: [Member; 2],
    log: Vec<LogEntry>,
    leader: usize,
    leads_since: u64,
    now: u64,
    /// Until when clients may count on a lease, and how long one lasts.
    promised: BTreeMap<i64, (u64, u64)>,
}

impl Cluster {
    fn new(persist_checkpoints: bool) -> Cluster {
        let options = lease_options(persist_checkpoints);
        let members = [Member::with(options), Member::with(options)];
        let log = Vec::new();
        let mut cluster =
            Cluster { options, members, log, leader: 0, leads_since: 0, now: 0, promised: BTreeMap::new() };
        cluster.lead(0);
        cluster
    }

    fn propose(&mut self, request: Request) {
        let index = Index(self.log.len() as u64 + 1);
        self.log.push(LogEntry { term: Term(1), index, kind: EntryKind::Normal, data: encode(index.0, request) });
    }

    fn apply(&mut self, member: usize, up_to: usize) -> Applied {
        let mut applied = Applied::default();
        let (from, up_to) = (self.members[member].machine.applied().0 as usize, up_to.min(self.log.len()));
        if from < up_to {
            self.members[member].machine.apply(&self.log[from..up_to], at(self.now), &mut applied).unwrap();
        }
        applied
    }

    /// Proposes, and waits until it is applied where it was asked for: whether it was granted.
    fn ask(&mut self, request: Request) -> bool {
        self.propose(request);
        let (.., result) = self.apply(self.leader, usize::MAX).results.pop().unwrap();
        result.is_ok()
    }

    fn lead(&mut self, member: usize) {
        self.members[self.leader].machine.shared().lessor().lock().demote();
        self.apply(member, usize::MAX);
        self.members[member].machine.shared().lessor().lock().promote(at(self.now), Duration::from_secs(EXTENSION));
        (self.leader, self.leads_since) = (member, self.now);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Grant(id, ttl) => {
                if self.ask(grant(id, ttl)) {
                    let ttl = ttl.max(2) as u64;
                    self.promised.insert(id, (self.now + ttl, ttl));
                }
            }
            Step::Put(key, id) => drop(self.ask(put_leased(&key.to_string(), "", id))),
            Step::Renew(id) => {
                let renewed = {
                    let mut lessor = self.members[self.leader].machine.shared().lessor().lock();
                    lessor.renew(LeaseId(id), at(self.now))
                };
                if let Ok(renewal) = renewed {
                    if renewal.clear_checkpoint {
                        assert!(self.ask(checkpoints(vec![(LeaseId(id), 0)])));
                    }
                    let ttl = renewal.ttl as u64;
                    self.promised.insert(id, (self.now + ttl, ttl));
                }
            }
            Step::Wait(seconds) => self.wait(seconds),
            Step::Apply(count) => {
                self.apply(self.leader, usize::MAX);
                let other = 1 - self.leader;
                let from = self.members[other].machine.applied().0 as usize;
                self.apply(other, from + count);
            }
            Step::Lead(member) => self.lead(member),
            Step::Restart(member) => {
                let was_leader = member == self.leader;
                let disk = self.members[member].disk.clone();
                if self.now.is_multiple_of(2) {
                    self.members[member].backend.commit().unwrap();
                }
                // Its handle on the file is closed before the file is opened again.
                self.members[member] = Member::with(self.options);
                self.members[member] = Member::on(disk, self.options);
                if was_leader {
                    self.lead(1 - member);
                }
            }
            Step::HandOver => {
                self.apply(self.leader, usize::MAX);
                let other = 1 - self.leader;
                if self.members[other].machine.applied() < self.members[self.leader].machine.applied() {
                    hand_over(&mut self.members, self.leader);
                }
            }
        }
    }

    /// The leader may revoke only what nobody counts on any more, and must revoke what has been over for long.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..=seconds {
            let (expired, due) = {
                let mut lessor = self.members[self.leader].machine.shared().lessor().lock();
                (lessor.expired(at(self.now), 100), lessor.checkpoints(at(self.now), 100))
            };
            for id in &expired {
                let (until, _) = self.promised[&id.0];
                assert!(until <= self.now, "lease {} ends at {} and was promised until {until}", id.0, self.now);
                self.propose(revoke(id.0));
            }
            if !due.is_empty() {
                self.propose(checkpoints(due));
            }
            if !expired.is_empty() {
                self.apply(self.leader, usize::MAX);
                self.promised.retain(|id, _| !expired.contains(&LeaseId(*id)));
            }
            for (id, (until, ttl)) in &self.promised {
                let latest = (*until).max(self.leads_since + ttl + EXTENSION);
                assert!(self.now < latest, "lease {id} was to end at {until}, or by {latest}: it is {}", self.now);
            }
            self.now += 1;
        }
    }
}

fn checkpoints(remaining: Vec<(LeaseId, i64)>) -> Request {
    let checkpoint = |(id, remaining_ttl): (LeaseId, i64)| LeaseCheckpoint { id: id.0, remaining_ttl };
    let checkpoints = remaining.into_iter().map(checkpoint).collect();
    Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
}

fn hand_over(members: &mut [Member; 2], leader: usize) {
    let (from, to) = (&members[leader], &members[1 - leader]);
    from.backend.commit().unwrap();
    let mut export = from.backend.export();
    let mut import = Import::create(Arc::new(to.disk.clone()), Path::new("db"), Options::default()).unwrap();
    while let Some(chunk) = export.next_chunk().unwrap() {
        import.write(&chunk).unwrap();
    }
    let applied = import.finish().unwrap();
    members[1 - leader].machine.adopt_received(applied).unwrap();
}

/// A member that was handed the state, or started again, does not know of a checkpoint that is not stored. The others do.
#[test]
fn a_renewal_undoes_checkpoints_that_only_other_members_know_of() {
    for forgets in [Step::HandOver, Step::Restart(0)] {
        let mut cluster = Cluster::new(false);
        for step in
            [Step::Grant(1, 9), Step::Wait(5), Step::Lead(1), forgets, Step::Lead(0), Step::Renew(1), Step::Lead(1)]
        {
            cluster.step(step);
        }
        cluster.wait(20);
        assert!(cluster.promised.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn leases_keep_their_promises_whoever_leads(
        steps in prop::collection::vec(step(), 1..80),
        persist_checkpoints in any::<bool>(),
    ) {
        let mut cluster = Cluster::new(persist_checkpoints);
        for step in steps {
            cluster.step(step);
        }
        for member in [0, 1] {
            cluster.apply(member, usize::MAX);
            cluster.members[member].backend.commit().unwrap();
        }
        let [one, other] = &cluster.members;
        prop_assert_eq!(one.hash(), other.hash());
        prop_assert_eq!(one.tables(), other.tables());
        prop_assert_eq!(one.backend.digest(), other.backend.digest());
        let keys = |member: &Member| -> Vec<Option<Vec<Vec<u8>>>> {
            let lessor = member.machine.shared().lessor().lock();
            (1..5).map(|id| Some(lessor.keys(LeaseId(id))?.map(<[u8]>::to_vec).collect())).collect()
        };
        prop_assert_eq!(keys(one), keys(other));
        // In the end every lease that nobody renews is gone.
        cluster.wait(100);
        prop_assert!(cluster.promised.is_empty());
        prop_assert!(cluster.members[cluster.leader].machine.shared().lessor().lock().is_empty());
    }
}
