use std::collections::BTreeMap;

use env::SystemRng;
use types::SnapshotMeta;

use super::*;

const ME: MemberId = MemberId(7);

fn restored(voters: &[u64]) -> Restored {
    Restored {
        hard_state: HardState::default(),
        voters: voters.iter().copied().map(MemberId).collect(),
        learners: vec![],
        applied: (Index(0), Term(0)),
        terms: vec![(Index(0), Term(0))],
        before_first: Index(0),
        entries: vec![],
    }
}

fn driver_of(id: MemberId, kept_entries_max: usize, restored: Restored) -> Driver {
    let config = DriverConfig {
        id,
        heartbeat_ticks: 1,
        election_ticks: 10,
        pre_vote: true,
        kept_entries_max,
        kept_bytes_max: 1 << 20,
    };
    Driver::new(config, restored, Box::new(SystemRng::with_seed(id.0))).unwrap()
}

fn driver(restored: Restored) -> Driver {
    driver_of(ME, 100, restored)
}

fn entry(index: u64, term: u64, data: &'static str) -> LogEntry {
    LogEntry {
        term: Term(term),
        index: Index(index),
        kind: EntryKind::Normal,
        data: Bytes::from_static(data.as_bytes()),
    }
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
    let mut driver = driver(restored(&[ME.0]));
    driver.campaign();
    run(&mut driver, &mut vec![]);
    driver
}

#[test]
fn a_single_voter_leads_once_it_has_committed_in_its_term() {
    let status = leader().status();
    assert_eq!((status.role, status.leader, status.sole_voter), (Role::Leader, ME, true));
}

#[test]
fn nothing_is_applied_before_it_is_persisted() {
    let mut driver = leader();
    driver.propose([Bytes::from_static(b"a")]).unwrap();
    let mut effects = vec![];
    driver.drain(&mut effects);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Apply(_))), "{effects:?}");
    let [Effect::Persist { number, .. }, ..] = effects[..] else { panic!("{effects:?}") };
    driver.persisted(number);
    assert_eq!(run(&mut driver, &mut vec![]), ["a"]);
}

#[test]
fn a_read_waits_for_the_first_commit_of_the_term() {
    let mut driver = driver(restored(&[ME.0]));
    driver.campaign();
    driver.read_index(1);
    let mut effects = vec![];
    driver.drain(&mut effects);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::ReadReady { .. })));
    for effect in &effects {
        if let Effect::Persist { number, .. } = effect {
            driver.persisted(*number);
        }
    }
    let mut seen = vec![];
    run(&mut driver, &mut seen);
    assert!(seen.iter().any(|effect| matches!(effect, Effect::ReadReady { context: 1, index: Index(1) })), "{seen:?}");
}

#[test]
fn without_a_leader_proposals_are_refused_and_reads_wait() {
    let mut driver = driver(restored(&[ME.0, 8]));
    assert_eq!(driver.propose([Bytes::new()]), Err(ProposeError::NoLeader));
    driver.read_index(9);
    let mut effects = vec![];
    for _ in 0..8 {
        driver.tick();
        driver.drain(&mut effects);
    }
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn a_restart_continues_the_log_and_applies_only_what_is_new() {
    let mut driver = driver(Restored {
        hard_state: HardState { term: Term(2), vote: ME, commit: Index(4) },
        applied: (Index(5), Term(2)),
        terms: vec![(Index(3), Term(2))],
        before_first: Index(3),
        entries: vec![entry(4, 2, "old"), entry(5, 2, "old"), entry(6, 2, "new")],
        ..restored(&[ME.0])
    });
    driver.campaign();
    assert_eq!(run(&mut driver, &mut vec![]), ["new", ""]);
    assert_eq!(driver.status().term, Term(3));
}

#[test]
fn a_term_that_came_with_a_snapshot_has_no_vote() {
    let restored = Restored {
        hard_state: HardState { term: Term(2), vote: ME, commit: Index(4) },
        applied: (Index(9), Term(5)),
        terms: vec![(Index(9), Term(5))],
        before_first: Index(9),
        ..restored(&[ME.0])
    };
    assert_eq!(hard_state(&restored), HardState { term: Term(5), vote: MemberId(0), commit: Index(9) });
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

/// etcd's numbers of kinds, as they stand in the log: raft-rs has no 3, and another 2.
#[test]
fn changes_of_every_kind_are_proposed_and_come_out_as_they_went_in() {
    for kind in 0..=3 {
        let mut driver = leader();
        let change = [0x10, kind, 0x18, 9];
        driver.propose_conf_change(Bytes::copy_from_slice(&change)).unwrap();
        let mut effects = vec![];
        driver.drain(&mut effects);
        let persisted = effects.iter().find_map(|effect| match effect {
            Effect::Persist { entries, .. } => entries.last(),
            _ => None,
        });
        let persisted = persisted.expect("it is to be written");
        assert_eq!((persisted.kind, persisted.data.as_ref()), (EntryKind::ConfChange, &change[..]));
    }
}

#[test]
fn election_timeouts_depend_on_the_seed_alone() {
    let ticks_to_candidacy = || {
        let mut driver = driver(restored(&[ME.0, 8]));
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

#[test]
fn a_member_that_has_just_started_need_not_wait_for_a_whole_timeout() {
    let mut driver = driver(restored(&[ME.0, 8]));
    driver.skip_silence();
    let mut effects = vec![];
    let ticks = (1..100).find(|_| {
        driver.tick();
        driver.drain(&mut effects);
        driver.status().role == Role::Candidate
    });
    assert!(ticks.is_some_and(|ticks| (2..12).contains(&ticks)), "{ticks:?}");
}

#[test]
fn the_only_voter_leads_no_sooner_than_its_log_is_on_disk() {
    let mut follower = driver(restored(&[ME.0, 8]));
    let append = Message {
        term: Term(1),
        entries: vec![entry(1, 1, "x")],
        ..Message::new(MessageKind::Append, MemberId(8), ME)
    };
    follower.step(append).unwrap();
    let mut effects = vec![];
    follower.drain(&mut effects);
    follower.conf_changed(VoterChange::Remove(MemberId(8))).unwrap();
    follower.campaign();
    follower.step(Message { term: Term(1), ..Message::new(MessageKind::TimeoutNow, MemberId(8), ME) }).unwrap();
    (0..40).for_each(|_| follower.tick());
    follower.drain(&mut effects);
    assert_eq!(follower.status().role, Role::Follower);
    for number in effects.iter().filter_map(|effect| match effect {
        Effect::Persist { number, .. } => Some(*number),
        _ => None,
    }) {
        follower.persisted(number);
    }
    follower.campaign();
    run(&mut follower, &mut vec![]);
    assert_eq!(follower.status().role, Role::Leader);
}

/// Members whose disks and machines are perfect, on a network that a test may hold up.
struct Cluster {
    members: BTreeMap<u64, Member>,
    /// On their way, in order.
    wire: Vec<Message>,
    /// Messages from or to these are lost.
    cut_off: Vec<u64>,
}

struct Member {
    driver: Driver,
    /// The log on disk.
    log: Vec<LogEntry>,
    /// Batches that the disk has not finished, if it is held up.
    unsynced: Vec<u64>,
    disk_is_stuck: bool,
    applied: Vec<(u64, Bytes)>,
    reads: Vec<(u64, Index)>,
    dropped_reads: Vec<u64>,
    /// With what was applied then.
    leading: Vec<(bool, u64)>,
    reports: Vec<(MemberId, Bytes)>,
    restored: Vec<SnapshotMeta>,
}

impl Cluster {
    fn new(size: u64, kept_entries_max: usize) -> Cluster {
        let ids = (1..=size).collect::<Vec<_>>();
        let member = |&id: &u64| {
            let driver = driver_of(MemberId(id), kept_entries_max, restored(&ids));
            let member = Member {
                driver,
                log: vec![],
                unsynced: vec![],
                disk_is_stuck: false,
                applied: vec![],
                reads: vec![],
                dropped_reads: vec![],
                leading: vec![],
                reports: vec![],
                restored: vec![],
            };
            (id, member)
        };
        Cluster { members: ids.iter().map(member).collect(), wire: vec![], cut_off: vec![] }
    }

    fn led_by_first(size: u64, kept_entries_max: usize) -> Cluster {
        let mut cluster = Cluster::new(size, kept_entries_max);
        cluster.driver(1).campaign();
        cluster.run();
        assert_eq!(cluster.driver(1).status().role, Role::Leader);
        cluster
    }

    fn driver(&mut self, id: u64) -> &mut Driver {
        &mut self.members.get_mut(&id).unwrap().driver
    }

    /// Delivers and carries out until nothing is left.
    fn run(&mut self) {
        while self.turn() {}
    }

    /// The same; returns what was sent meanwhile.
    fn run_listening(&mut self) -> Vec<MessageKind> {
        let mut kinds = vec![];
        loop {
            self.members.values_mut().for_each(|member| member.carry_out(&mut self.wire));
            kinds.extend(self.wire.iter().map(|message| message.kind));
            if !self.turn() {
                return kinds;
            }
        }
    }

    /// Carries out what is to be done, and delivers what comes of it; returns whether anything did.
    fn turn(&mut self) -> bool {
        for member in self.members.values_mut() {
            member.carry_out(&mut self.wire);
        }
        let wire = std::mem::take(&mut self.wire);
        let is_alive = !wire.is_empty();
        for message in wire {
            let is_cut = self.cut_off.contains(&message.from.0) || self.cut_off.contains(&message.to.0);
            if !is_cut && let Some(member) = self.members.get_mut(&message.to.0) {
                member.driver.step(message).unwrap();
            }
        }
        is_alive
    }

    fn tick(&mut self, count: usize) {
        for _ in 0..count {
            self.members.values_mut().for_each(|member| member.driver.tick());
            self.run();
        }
    }

    fn propose(&mut self, at: u64, data: &'static str) {
        self.driver(at).propose([Bytes::from_static(data.as_bytes())]).unwrap();
        self.run();
    }

    fn applied(&self, at: u64) -> Vec<&str> {
        let applied = self.members[&at].applied.iter();
        applied.map(|(_, data)| std::str::from_utf8(data).unwrap()).filter(|data| !data.is_empty()).collect()
    }

    fn leaders(&self) -> Vec<u64> {
        let leads = |member: &Member| member.driver.status().role == Role::Leader;
        self.members.iter().filter(|(_, member)| leads(member)).map(|(id, _)| *id).collect()
    }
}

impl Member {
    fn carry_out(&mut self, wire: &mut Vec<Message>) {
        loop {
            let mut effects = vec![];
            self.driver.drain(&mut effects);
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.carry_out_one(effect, wire));
        }
    }

    fn carry_out_one(&mut self, effect: Effect, wire: &mut Vec<Message>) {
        match effect {
            Effect::Send(messages) | Effect::Tell(messages) => wire.extend(messages),
            Effect::Persist { number, entries, .. } => {
                self.write(entries);
                self.sync(number);
            }
            Effect::Restore { number, snapshot, entries, .. } => {
                self.log.clear();
                self.write(entries);
                self.sync(number);
                self.driver.applied(snapshot.index);
                self.restored.push(snapshot);
            }
            Effect::Apply(entries) => {
                self.applied.extend(entries.iter().map(|entry| (entry.index.0, entry.data.clone())));
                self.driver.applied(entries.last().unwrap().index);
            }
            Effect::Fetch { from, to, .. } => {
                let entries = self.log.iter().filter(|entry| (from..to).contains(&entry.index));
                let entries = entries.take(2).cloned().collect();
                self.driver.fetched(from, entries);
            }
            Effect::ReadReady { context, index } => self.reads.push((context, index)),
            Effect::ReadsDropped(contexts) => self.dropped_reads.extend(contexts),
            Effect::Report { from, report } => self.reports.push((from, report)),
            Effect::StatusChanged(_) => {}
            Effect::Leading(leading) => {
                self.leading.push((leading, self.applied.last().map_or(0, |(index, _)| *index)));
            }
        }
    }

    fn write(&mut self, entries: Vec<LogEntry>) {
        if let Some(first) = entries.first() {
            self.log.retain(|entry| entry.index < first.index);
        }
        self.log.extend(entries);
    }

    fn sync(&mut self, number: u64) {
        if self.disk_is_stuck {
            self.unsynced.push(number);
        } else {
            self.driver.persisted(number);
        }
    }

    fn release_disk(&mut self) {
        self.disk_is_stuck = false;
        self.unsynced.drain(..).for_each(|number| self.driver.persisted(number));
    }
}

#[test]
fn what_is_proposed_anywhere_is_applied_everywhere_in_one_order() {
    let mut cluster = Cluster::led_by_first(3, 100);
    for (at, data) in [(1, "a"), (2, "b"), (3, "c"), (1, "d")] {
        cluster.propose(at, data);
    }
    for id in 1..=3 {
        assert_eq!(cluster.applied(id), ["a", "b", "c", "d"]);
    }
}

#[test]
fn a_leader_replicates_while_its_own_disk_is_stuck() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.members.get_mut(&1).unwrap().disk_is_stuck = true;
    cluster.propose(1, "a");
    assert_eq!((cluster.applied(1), cluster.applied(2), cluster.applied(3)), (vec![], vec!["a"], vec!["a"]));
    cluster.members.get_mut(&1).unwrap().release_disk();
    cluster.run();
    assert_eq!(cluster.applied(1), ["a"]);
}

#[test]
fn a_follower_promises_nothing_before_its_disk_does_and_stays_alive_meanwhile() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![3];
    cluster.members.get_mut(&2).unwrap().disk_is_stuck = true;
    cluster.propose(1, "a");
    cluster.tick(50);
    assert_eq!(cluster.applied(1), Vec::<&str>::new());
    assert_eq!(cluster.leaders(), [1], "the leader still hears of a quorum");
    cluster.members.get_mut(&2).unwrap().release_disk();
    cluster.run();
    assert_eq!(cluster.applied(1), ["a"]);
}

#[test]
fn every_member_reads_with_fresh_contexts() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.propose(1, "a");
    for id in 1..=3 {
        cluster.driver(id).read_index(100 + id);
    }
    cluster.run();
    for id in 1..=3 {
        assert_eq!(cluster.members[&id].reads, [(100 + id, Index(2))]);
    }
}

/// Or the leader would take the second one for the first, or an answer to an earlier run's for one to this.
#[test]
fn reads_of_two_members_or_runs_are_told_apart_whatever_they_are_called() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.propose(1, "a");
    for id in 1..=3 {
        cluster.driver(id).read_index(7);
    }
    cluster.run();
    for id in 1..=3 {
        assert_eq!(cluster.members[&id].reads, [(7, Index(2))]);
    }
}

#[test]
fn reads_that_come_while_the_leader_asks_share_its_next_round() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.driver(1).read_index(100);
    let mut heartbeats = 0;
    let mut late = vec![101, 102, 103];
    loop {
        cluster.members.values_mut().for_each(|member| member.carry_out(&mut cluster.wire));
        heartbeats += cluster.wire.iter().filter(|message| message.kind == MessageKind::Heartbeat).count();
        let is_alive = cluster.turn();
        if let Some(context) = late.pop() {
            cluster.driver(2).read_index(200 + context);
            cluster.driver(1).read_index(context);
        } else if !is_alive {
            break;
        }
    }
    let contexts = |id: u64| cluster.members[&id].reads.iter().map(|(context, _)| *context).collect::<Vec<_>>();
    assert_eq!((contexts(1).len(), contexts(2).len()), (4, 3));
    // Two at most for each of four rounds, though seven reads were asked for one after the other.
    assert!(heartbeats <= 8, "{heartbeats}");
}

#[test]
fn of_three_members_the_leader_and_who_asks_are_enough() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.propose(1, "a");
    cluster.cut_off = vec![3];
    cluster.driver(2).read_index(7);
    let kinds = cluster.run_listening();
    assert_eq!(cluster.members[&2].reads, [(7, Index(2))]);
    assert!(kinds.contains(&MessageKind::ReadIndexResponse), "{kinds:?}");
    assert!(!kinds.contains(&MessageKind::Heartbeat), "{kinds:?}");
}

#[test]
fn of_five_members_a_quorum_is_asked() {
    let mut cluster = Cluster::led_by_first(5, 100);
    cluster.cut_off = vec![3, 4, 5];
    cluster.driver(2).read_index(7);
    cluster.run();
    assert_eq!(cluster.members[&2].reads, []);
    cluster.cut_off = vec![4, 5];
    cluster.tick(1);
    assert_eq!(cluster.members[&2].reads, [(7, Index(1))]);
}

/// Whom member 1 asks for a read round that is called `context`.
fn asked(cluster: &mut Cluster, context: u64) -> Vec<u64> {
    cluster.driver(1).read_index(context);
    for member in cluster.members.values_mut() {
        member.carry_out(&mut cluster.wire);
    }
    let rounds = cluster.wire.iter().filter(|message| message.kind == MessageKind::Heartbeat);
    let mut asked = rounds.map(|message| message.to.0).collect::<Vec<_>>();
    asked.sort_unstable();
    asked
}

#[test]
fn a_leader_asks_no_more_members_than_it_needs_the_promptest_first() {
    for (size, cut_off, expected) in
        [(3, vec![], vec![2]), (3, vec![2], vec![3]), (5, vec![2, 4], vec![3, 5]), (2, vec![], vec![2])]
    {
        let mut cluster = Cluster::led_by_first(size, 100);
        cluster.cut_off = cut_off;
        cluster.tick(1);
        assert_eq!(asked(&mut cluster, 7), expected);
        cluster.run();
        assert_eq!(cluster.members[&1].reads, [(7, Index(1))]);
    }
}

#[test]
fn until_enough_members_have_answered_since_the_last_tick_all_are_asked() {
    let mut cluster = Cluster::led_by_first(5, 100);
    cluster.cut_off = vec![2, 3, 4];
    cluster.tick(1);
    cluster.cut_off.clear();
    assert_eq!(asked(&mut cluster, 7), [2, 3, 4, 5]);
}

#[test]
fn answers_of_strangers_and_of_earlier_terms_make_nobody_prompt() {
    let mut cluster = Cluster::led_by_first(3, 100);
    let term = cluster.driver(1).status().term;
    let answer = |to, from, term| {
        let kind = MessageKind::HeartbeatResponse;
        Message { term, ..Message::new(kind, MemberId(from), MemberId(to)) }
    };
    for (from, term) in [(9, term), (2, Term(term.0 - 1)), (2, Term(0))] {
        cluster.driver(1).step(answer(1, from, term)).unwrap();
        assert_eq!(cluster.driver(1).prompt, [0; 0], "{from} in {term:?}");
    }
    cluster.driver(2).step(answer(2, 3, term)).unwrap();
    assert_eq!(cluster.driver(2).prompt, [0; 0], "a follower asks nobody");
    cluster.driver(1).step(answer(1, 2, term)).unwrap();
    assert_eq!(cluster.driver(1).prompt, [2]);
    cluster.driver(1).transfer_leader(MemberId(3));
    cluster.run();
    assert_eq!((cluster.leaders(), cluster.driver(1).prompt.len()), (vec![3], 0));
}

#[test]
fn a_read_waits_for_one_who_falls_silent_no_longer_than_until_others_are_asked() {
    let ways: [fn(&mut Cluster); 3] =
        [|of| of.tick(1), |of| of.driver(1).unreachable(MemberId(2)), |of| of.driver(1).hurry_reads()];
    for way in ways {
        let mut cluster = Cluster::led_by_first(3, 100);
        cluster.tick(1);
        assert_eq!(asked(&mut cluster, 7), [2]);
        cluster.cut_off = vec![2];
        cluster.run();
        assert_eq!(cluster.members[&1].reads, []);
        way(&mut cluster);
        cluster.run();
        assert_eq!(cluster.members[&1].reads, [(7, Index(1))]);
        assert_eq!(asked(&mut cluster, 8), [3]);
    }
}

#[test]
fn who_is_only_told_what_is_committed_does_not_answer() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.driver(1).propose([Bytes::from_static(b"a")]).unwrap();
    let kinds = cluster.run_listening();
    let answers = kinds.iter().filter(|&&kind| kind == MessageKind::AppendResponse).count();
    assert_eq!((answers, cluster.applied(2), cluster.applied(3)), (2, vec!["a"], vec!["a"]));
}

#[test]
fn who_cannot_follow_what_it_is_told_says_so() {
    let mut follower = driver(restored(&[ME.0, 8]));
    let tell = Message {
        term: Term(1),
        log_term: Term(1),
        index: Index(5),
        commit: Index(5),
        context: Bytes::from_static(NEEDS_NO_ANSWER),
        ..Message::new(MessageKind::Append, MemberId(8), ME)
    };
    follower.step(tell).unwrap();
    let mut seen = vec![];
    run(&mut follower, &mut seen);
    let sent = seen.iter().filter_map(|effect| if let Effect::Send(messages) = effect { Some(messages) } else { None });
    assert!(sent.flatten().any(|answer| answer.reject), "{seen:?}");
}

#[test]
fn a_candidate_of_an_earlier_term_learns_of_the_later_one() {
    let mut member = driver(restored(&[ME.0, 8]));
    let vote = |term| Message { term: Term(term), ..Message::new(MessageKind::Vote, MemberId(8), ME) };
    let mut answers = |term| {
        member.step(vote(term)).unwrap();
        let mut seen = vec![];
        run(&mut member, &mut seen);
        let sent =
            seen.into_iter().filter_map(|effect| if let Effect::Send(sent) = effect { Some(sent) } else { None });
        let sent = sent.flatten().filter(|answer| answer.kind == MessageKind::VoteResponse);
        sent.map(|answer| (answer.to.0, answer.term.0, answer.reject)).collect::<Vec<_>>()
    };
    assert_eq!(answers(9), [(8, 9, false)]);
    assert_eq!(answers(4), [(8, 9, true)]);
}

#[test]
fn who_may_have_missed_entries_is_told_in_a_way_that_is_answered() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.driver(1).unreachable(MemberId(3));
    cluster.driver(1).propose([Bytes::from_static(b"a")]).unwrap();
    cluster.run();
    assert_eq!(cluster.driver(1).progress().iter().map(|of| of.matched.0).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn whom_a_follower_no_longer_follows_does_not_answer_its_reads() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![1];
    cluster.driver(2).leader_is_gone(MemberId(1));
    cluster.driver(3).leader_is_gone(MemberId(1));
    cluster.driver(2).campaign();
    cluster.run();
    cluster.propose(2, "new");
    // The old leader is in touch again, with the old term, and with the one that voted for the other.
    cluster.cut_off = vec![2];
    assert_eq!(cluster.leaders(), [1, 2]);
    cluster.driver(3).read_index(7);
    cluster.driver(1).read_index(8);
    cluster.run();
    assert_eq!((&cluster.members[&3].reads, &cluster.members[&1].reads), (&vec![], &vec![]));
    cluster.cut_off.clear();
    cluster.tick(2);
    assert!(cluster.members[&3].reads.iter().all(|(_, index)| *index >= Index(3)), "{:?}", cluster.members[&3].reads);
}

#[test]
fn a_round_that_gets_lost_is_repeated() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![2, 3];
    cluster.driver(1).read_index(1);
    cluster.run();
    cluster.driver(1).read_index(2);
    cluster.run();
    cluster.cut_off.clear();
    cluster.tick(1);
    assert_eq!(cluster.members[&1].reads.iter().map(|(context, _)| *context).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn reads_that_get_lost_are_dropped_to_be_asked_again() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![2];
    cluster.driver(2).read_index(1);
    cluster.tick(6);
    assert_eq!(cluster.members[&2].dropped_reads, [1]);
    assert!(cluster.members[&2].reads.is_empty());
    cluster.cut_off.clear();
    cluster.driver(2).read_index(2);
    cluster.tick(1);
    assert_eq!(cluster.members[&2].reads, [(2, Index(1))]);
}

#[test]
fn reads_of_a_follower_wait_for_the_new_leaders_first_commit() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![1];
    cluster.driver(2).leader_is_gone(MemberId(1));
    cluster.driver(3).leader_is_gone(MemberId(1));
    cluster.driver(2).campaign();
    // The new leader leads, and its first entry waits for the others' disks.
    while cluster.leaders() != [1, 2] {
        let stuck = cluster.driver(2).status().role == Role::Candidate && cluster.driver(3).status().term == Term(2);
        cluster.members.get_mut(&3).unwrap().disk_is_stuck = stuck;
        cluster.turn();
    }
    cluster.members.get_mut(&2).unwrap().disk_is_stuck = true;
    cluster.run();
    assert!(!cluster.driver(2).status().leads_in_term);
    assert_eq!(cluster.members[&2].leading, []);
    cluster.driver(3).read_index(7);
    cluster.run();
    assert_eq!(cluster.members[&3].reads, []);
    for id in [2, 3] {
        cluster.members.get_mut(&id).unwrap().release_disk();
    }
    cluster.run();
    assert_eq!(cluster.members[&3].reads, [(7, Index(2))]);
    // Nor does it act by its state, which may lack what the leader before it acknowledged.
    assert_eq!(cluster.members[&2].leading, [(true, 2)]);
    cluster.cut_off.clear();
    cluster.tick(3);
    assert_eq!(cluster.members[&1].leading, [(true, 1), (false, 1)]);
}

#[test]
fn leadership_moves_on_request() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.driver(1).transfer_leader(MemberId(3));
    assert_eq!(cluster.driver(1).propose([Bytes::new()]), Err(ProposeError::NoLeader));
    cluster.run();
    assert_eq!(cluster.leaders(), [3]);
    cluster.propose(1, "after");
    assert_eq!(cluster.applied(2), ["after"]);
}

#[test]
fn a_leader_that_is_known_to_be_gone_is_replaced_without_waiting() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![1];
    assert!(!cluster.driver(2).leader_is_gone(MemberId(3)), "it does not lead");
    for id in [2, 3] {
        assert!(cluster.driver(id).leader_is_gone(MemberId(1)));
    }
    cluster.driver(2).campaign();
    cluster.run();
    assert_eq!(cluster.driver(2).status().role, Role::Leader);
    assert_eq!(cluster.driver(3).status().leader, MemberId(2));
}

#[test]
fn a_mistaken_hint_costs_nothing() {
    let mut cluster = Cluster::led_by_first(3, 100);
    let term = cluster.driver(1).status().term;
    assert!(cluster.driver(2).leader_is_gone(MemberId(1)));
    cluster.driver(2).campaign();
    cluster.run();
    cluster.tick(2);
    assert_eq!((cluster.leaders(), cluster.driver(2).status().leader), (vec![1], MemberId(1)));
    assert_eq!(cluster.driver(1).status().term, term, "nobody was disturbed");
}

#[test]
fn one_that_was_cut_off_does_not_disturb_the_others_when_it_is_back() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![3];
    cluster.tick(100);
    let term = cluster.driver(1).status().term;
    cluster.cut_off.clear();
    cluster.tick(100);
    assert_eq!((cluster.leaders(), cluster.driver(1).status().term), (vec![1], term));
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![1];
    cluster.tick(60);
    let leaders = cluster.leaders();
    assert!(leaders.len() == 1 && leaders != [1], "{leaders:?}");
}

#[test]
fn a_follower_that_fell_behind_gets_what_is_only_on_disk() {
    let mut cluster = Cluster::led_by_first(3, 2);
    cluster.cut_off = vec![3];
    for data in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        cluster.propose(1, data);
    }
    cluster.cut_off.clear();
    // A heartbeat tells the leader that it is back; from then on nothing waits for another.
    cluster.tick(1);
    assert_eq!(cluster.applied(3), ["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert!(cluster.members[&3].restored.is_empty());
}

#[test]
fn a_follower_that_fell_further_behind_gets_a_snapshot_and_then_the_rest() {
    let mut cluster = Cluster::led_by_first(3, 2);
    cluster.cut_off = vec![3];
    for data in ["a", "b", "c", "d", "e"] {
        cluster.propose(1, data);
    }
    cluster.driver(1).log_released(Index(5));
    cluster.cut_off.clear();
    cluster.tick(2);
    let restored = &cluster.members[&3].restored;
    assert_eq!(restored.len(), 1);
    assert_eq!((restored[0].index, restored[0].voters.len()), (Index(6), 3));
    cluster.driver(1).snapshot_sent(MemberId(3), true);
    cluster.propose(1, "f");
    cluster.tick(2);
    assert_eq!(cluster.applied(3), ["f"]);
}

#[test]
fn what_the_log_lets_go_of_while_it_is_read_back_ends_in_a_snapshot() {
    let mut cluster = Cluster::led_by_first(3, 2);
    cluster.cut_off = vec![3];
    for data in ["a", "b", "c", "d", "e"] {
        cluster.propose(1, data);
    }
    // The log lets go of everything that memory does not hold, and the driver does not know yet.
    cluster.members.get_mut(&1).unwrap().log.clear();
    cluster.cut_off.clear();
    cluster.tick(8);
    assert_eq!(cluster.members[&3].restored.len(), 1);
}

#[test]
fn reports_reach_the_leader_with_an_answer() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.driver(2).set_report(Bytes::from_static(b"digest"));
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    assert_eq!(cluster.members[&1].reports, [(MemberId(2), Bytes::from_static(b"digest"))]);
}

#[test]
fn progress_tells_who_is_behind_and_who_was_heard_of() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![3];
    cluster.propose(1, "a");
    cluster.tick(30);
    let progress = cluster.driver(1).progress();
    let seen = progress.iter().map(|of| (of.member.0, of.matched.0, of.is_active)).collect::<Vec<_>>();
    assert_eq!(seen, [(2, 2, seen[0].2), (3, 1, false)]);
    assert!(cluster.driver(2).progress().is_empty());
}

#[test]
fn a_member_that_lost_its_log_says_so_and_stops() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.propose(1, "a");
    let mut empty = driver_of(MemberId(2), 100, restored(&[1, 2, 3]));
    let heartbeat =
        Message { term: Term(1), commit: Index(2), ..Message::new(MessageKind::Heartbeat, MemberId(1), MemberId(2)) };
    let error = empty.step(heartbeat).unwrap_err();
    assert!(matches!(error, ConsensusError::LogLost { known: Index(2), last: Index(0), .. }), "{error}");
}

#[test]
fn a_conflicting_tail_is_overwritten() {
    let mut cluster = Cluster::led_by_first(3, 100);
    cluster.cut_off = vec![1];
    cluster.driver(1).propose([Bytes::from_static(b"lost")]).unwrap();
    cluster.run();
    cluster.driver(2).leader_is_gone(MemberId(1));
    cluster.driver(3).leader_is_gone(MemberId(1));
    cluster.driver(2).campaign();
    cluster.run();
    cluster.propose(2, "kept");
    cluster.cut_off.clear();
    cluster.tick(3);
    for id in 1..=3 {
        assert_eq!(cluster.applied(id), ["kept"]);
    }
}

#[test]
fn a_member_that_puts_a_snapshot_in_its_place_does_not_campaign_meanwhile() {
    let mut driver = driver(restored(&[ME.0, 8]));
    let snapshot = SnapshotMeta { index: Index(20), term: Term(3), voters: vec![ME, MemberId(8)], learners: vec![] };
    let message =
        Message { term: Term(4), snapshot: Some(snapshot), ..Message::new(MessageKind::Snapshot, MemberId(8), ME) };
    driver.step(message).unwrap();
    let mut effects = vec![];
    driver.drain(&mut effects);
    let number = effects.iter().find_map(|effect| match effect {
        Effect::Restore { number, .. } => Some(*number),
        _ => None,
    });
    for _ in 0..50 {
        driver.tick();
        driver.drain(&mut effects);
    }
    driver.step(Message { term: Term(4), ..Message::new(MessageKind::TimeoutNow, MemberId(8), ME) }).unwrap();
    driver.campaign();
    driver.drain(&mut effects);
    driver.persisted(number.expect("the snapshot is to be put in its place"));
    driver.tick();
    driver.drain(&mut effects);
    assert_eq!(driver.status().role, Role::Follower);
    driver.applied(Index(20));
    for _ in 0..50 {
        driver.tick();
        driver.drain(&mut effects);
    }
    assert_eq!(driver.status().role, Role::Candidate);
}

#[test]
fn a_leader_that_is_removed_hands_over_whatever_is_still_under_way() {
    let mut cluster = Cluster::led_by_first(3, 100);
    let driver = cluster.driver(1);
    let mut effects = vec![];
    driver.propose([Bytes::from_static(b"a")]).unwrap();
    driver.drain(&mut effects);
    driver.conf_changed(VoterChange::Remove(MemberId(1))).unwrap();
    for effect in &effects {
        if let Effect::Persist { number, .. } = effect {
            driver.persisted(*number);
        }
    }
    let mut answer =
        Message { term: driver.status().term, ..Message::new(MessageKind::AppendResponse, MemberId(2), MemberId(1)) };
    answer.index = driver.last_index();
    driver.step(answer).unwrap();
    effects.clear();
    driver.drain(&mut effects);
    assert_eq!(driver.status().role, Role::Follower);
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send(messages) => Some(messages),
        _ => None,
    });
    assert!(sent.flatten().any(|message| message.kind == MessageKind::TimeoutNow), "{effects:?}");
}
