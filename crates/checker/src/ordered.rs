//! The judge that takes the order from the revisions.
//!
//! Every answer carries a revision, so the order of all writes is known, and of every read the two writes it lies
//! between. Left to check: that each answer follows from the state before it, and that the order fits real time. For
//! operations `a`, `b` with `a` returned before `b` began: `b` saw at least the revision that `a` saw, and if `b` wrote,
//! a higher one. Nothing more is needed, since reads of one revision can be put in the order of time.
//!
//! Writes whose outcome nobody knows are found by what they did: each revision that no answered write accounts for must
//! be the work of an unknown one, each of them at most once, or of a lease that ran out.
//!
//! Compaction has no revision of its own. It is judged against reads one by one, which is slightly weaker than
//! [`crate::search()`]. A lease's end without keys is not seen here at all; [`crate::check_leases`] looks at leases.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::LeaseId;

use crate::history::{Answer, Body, Change, History, KeyValue, Operation, Outcome, Refusal, Request, Step};
use crate::model::{View, evaluate};
use crate::replay::Replay;
use crate::violation::{Rule, Violation};

/// A lease's keys went without anybody having asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub lease: LeaseId,
    pub revision: i64,
    /// No request whose outcome is unknown can have done the same instead.
    pub is_certain: bool,
}

/// What is known after a history was found good.
#[derive(Clone, Debug)]
pub struct Findings {
    pub replay: Replay,
    /// Of every operation the revision it made, or saw; `None` if it is not known to have done anything.
    pub revisions: Vec<Option<i64>>,
    /// By revision.
    pub expiries: Vec<Expiry>,
    /// Who made which revision.
    pub writers: BTreeMap<i64, usize>,
}

/// Judges a history.
///
/// # Errors
/// The first contradiction found.
pub fn ordered(history: &History) -> Result<Findings, Violation> {
    let mut judge = Judge::new(history)?;
    judge.replay()?;
    judge.explain_gaps()?;
    judge.check_answers()?;
    judge.check_real_time()?;
    judge.check_compactions()?;
    judge.check_leases()?;
    judge.check_sessions()?;
    let Judge { replay, revisions, expiries, writers, .. } = judge;
    Ok(Findings { replay, revisions, expiries, writers })
}

struct Judge<'a> {
    history: &'a History,
    replay: Replay,
    writers: BTreeMap<i64, usize>,
    /// Answered revocations by the revision in their answer.
    revocations: BTreeMap<i64, Vec<usize>>,
    revisions: Vec<Option<i64>>,
    floors: Floors,
    gaps: Vec<Gap>,
    expiries: Vec<Expiry>,
}

/// A revision that no answered write accounts for.
struct Gap {
    revision: i64,
    /// Unknown writes, and answered revocations, that would have done just this.
    candidates: Vec<usize>,
    /// The lease whose end would have.
    lease: Option<LeaseId>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Result<Judge<'a>, Violation> {
        let mut writers: BTreeMap<i64, usize> = BTreeMap::new();
        let mut revocations: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, operation) in history.operations.iter().enumerate() {
            let Outcome::Answered(answer) = &operation.outcome else { continue };
            if changes_something(&answer.body) {
                if let Some(other) = writers.insert(answer.revision, at) {
                    let what = format!("revision {} was given to two writes", answer.revision);
                    return Err(Violation::new(Rule::RevisionRepeated, [other, at], what));
                }
            } else if matches!(operation.request, Request::Revoke(_)) {
                revocations.entry(answer.revision).or_default().push(at);
            }
        }
        let revisions = history.operations.iter().map(|operation| Some(answer(operation)?.revision)).collect();
        Ok(Judge {
            history,
            replay: Replay::new(history.start),
            writers,
            revocations,
            revisions,
            floors: Floors::new(&history.operations),
            gaps: Vec::new(),
            expiries: Vec::new(),
        })
    }

    /// Builds the store's past, and judges the answers of writes on the way.
    fn replay(&mut self) -> Result<(), Violation> {
        let history = self.history;
        let newest = |keys: Option<&i64>| keys.copied().unwrap_or(history.start);
        let last = newest(self.writers.keys().next_back()).max(newest(history.log.keys().next_back()));
        let last = last.max(newest(self.revocations.keys().next_back()));
        if let Some((&revision, &at)) =
            self.writers.first_key_value().filter(|(revision, _)| **revision <= history.start)
        {
            let what = format!("a write was given revision {revision}, the store began at {}", history.start);
            return Err(Violation::new(Rule::WrongAnswer, [at], what));
        }
        for revision in history.start + 1..=last {
            let logged = history.log.get(&revision);
            let changes = match self.writers.get(&revision) {
                Some(&at) => self.replay_write(at, logged)?,
                None => match (logged, self.revoked_at(revision)) {
                    (Some(logged), _) => {
                        self.note_gap(revision, logged);
                        logged.clone()
                    }
                    (None, Some((at, changes))) => {
                        self.writers.insert(revision, at);
                        changes
                    }
                    (None, None) => {
                        let what = format!("nothing tells what revision {revision} did");
                        return Err(Violation::new(Rule::RevisionUnknown, [], what));
                    }
                },
            };
            self.replay.append(changes);
        }
        Ok(())
    }

    fn replay_write(&self, at: usize, logged: Option<&Vec<Change>>) -> Result<Vec<Change>, Violation> {
        let operation = &self.history.operations[at];
        let given = answer(operation).expect("a writer was answered");
        let state = self.replay.at(self.replay.last());
        if let Some(late) = reads_beyond(&operation.request, self.replay.last()) {
            let what = format!("a range at revision {late} was answered by a transaction at {}", given.revision);
            return Err(Violation::new(Rule::WrongAnswer, [at], what));
        }
        let (expected, changes) = evaluate(&state, &operation.request);
        if expected != *given {
            return Err(self.wrong_answer(at, given, &expected));
        }
        match logged.filter(|logged| **logged != changes) {
            Some(logged) => {
                let what = format!("revision {} was to do {changes:?} but did {logged:?}", given.revision);
                Err(Violation::new(Rule::EffectUnexplained, [at], what))
            }
            None => Ok(changes),
        }
    }

    fn revoked_at(&self, revision: i64) -> Option<(usize, Vec<Change>)> {
        let revoked = |&at: &usize| match self.history.operations[at].request {
            Request::Revoke(lease) => Some((at, self.lease_end(lease))),
            _ => None,
        };
        self.revocations.get(&revision)?.iter().filter_map(revoked).find(|(_, changes)| !changes.is_empty())
    }

    /// What the end of a lease would do now.
    fn lease_end(&self, lease: LeaseId) -> Vec<Change> {
        self.replay.attached_now(lease).map(|key| Change { key: key.clone(), put: None }).collect()
    }

    fn note_gap(&mut self, revision: i64, logged: &[Change]) {
        let state = self.replay.at(self.replay.last());
        let Some(first) = logged.first() else {
            return self.gaps.push(Gap { revision, candidates: vec![], lease: None });
        };
        let seen = self.history.seen.get(&revision);
        let is_candidate = |operation: &Operation| {
            let is_revocation = matches!(operation.request, Request::Revoke(_));
            // One that was answered may have found its keys deleted already, in the very same revision.
            let is_answered_so = is_revocation && answer(operation).is_some_and(|given| given.revision == revision);
            (operation.outcome == Outcome::Unknown || is_answered_so)
                && (is_revocation || may_change(&operation.request, first))
                && self.floors.before(operation.invoked).revision < revision
                && seen.is_none_or(|seen| operation.invoked <= *seen)
                && evaluate(&state, &operation.request).1 == logged
        };
        let operations = self.history.operations.iter().enumerate();
        let candidates = operations.filter(|(_, operation)| is_candidate(operation)).map(|(at, _)| at).collect();
        let lease = state.get(&first.key).map(|kv| kv.lease).filter(|lease| *lease != LeaseId::NONE);
        let lease = lease.filter(|lease| self.lease_end(*lease) == logged);
        drop(state);
        self.gaps.push(Gap { revision, candidates, lease });
    }

    /// Gives every gap an unknown write of its own; those that a lease's end explains may do without.
    fn explain_gaps(&mut self) -> Result<(), Violation> {
        // Those that need a write come first, so that none is taken from them.
        self.gaps.sort_by_key(|gap| (gap.lease.is_some(), gap.revision));
        let mut made_by: BTreeMap<usize, usize> = BTreeMap::new();
        for at in 0..self.gaps.len() {
            if self.match_gap(at, &mut made_by, &mut BTreeSet::new()) {
                continue;
            }
            let Gap { revision, candidates, lease } = &self.gaps[at];
            let Some(lease) = *lease else {
                let changes = self.replay.changes(*revision);
                let what = format!("revision {revision} did {changes:?}, which nobody asked for");
                return Err(Violation::new(Rule::EffectUnexplained, candidates.clone(), what));
            };
            let is_certain = candidates.is_empty();
            self.expiries.push(Expiry { lease, revision: *revision, is_certain });
        }
        for (operation, gap) in made_by {
            self.revisions[operation] = Some(self.gaps[gap].revision);
            self.writers.insert(self.gaps[gap].revision, operation);
        }
        self.expiries.sort_by_key(|expiry| expiry.revision);
        Ok(())
    }

    /// One step of Kuhn's matching: finds a candidate for the gap, moving others to theirs if need be.
    fn match_gap(&self, gap: usize, made_by: &mut BTreeMap<usize, usize>, tried: &mut BTreeSet<usize>) -> bool {
        for &candidate in &self.gaps[gap].candidates {
            if !tried.insert(candidate) {
                continue;
            }
            let holder = made_by.get(&candidate).copied();
            if holder.is_none_or(|holder| self.match_gap(holder, made_by, tried)) {
                made_by.insert(candidate, gap);
                return true;
            }
        }
        false
    }

    /// Judges the answers of everything that changed nothing.
    fn check_answers(&self) -> Result<(), Violation> {
        for (at, operation) in self.history.operations.iter().enumerate() {
            let Some(given) = answer(operation) else { continue };
            let revision = given.revision;
            if self.writers.get(&revision) == Some(&at) {
                continue;
            }
            if revision > self.replay.last() {
                let what = format!("revision {revision} was seen, but the last one known is {}", self.replay.last());
                return Err(Violation::new(Rule::RevisionUnknown, [at], what));
            }
            if revision < self.history.start {
                let what = format!("revision {revision} lies before the store's first, {}", self.history.start);
                return Err(Violation::new(Rule::WrongAnswer, [at], what));
            }
            if let Some(late) = reads_beyond(&operation.request, revision) {
                let what = format!("a read at revision {late} was answered when the newest was {revision}");
                return Err(Violation::new(Rule::WrongAnswer, [at], what));
            }
            let state = self.replay.at(revision);
            let (expected, changes) = evaluate(&state, &operation.request);
            if !changes.is_empty() {
                let what = format!("at revision {revision} it was to do {changes:?}, and did nothing");
                return Err(Violation::new(Rule::WrongAnswer, self.with_writer(at, revision), what));
            }
            if !agree(&expected, given) {
                return Err(self.wrong_answer(at, given, &expected));
            }
        }
        Ok(())
    }

    fn check_real_time(&self) -> Result<(), Violation> {
        for (at, operation) in self.history.operations.iter().enumerate() {
            let Some(given) = answer(operation) else { continue };
            let floor = self.floors.before(operation.invoked);
            let writes = self.writers.get(&given.revision) == Some(&at);
            if let Some(seen) =
                self.history.seen.get(&given.revision).filter(|seen| writes && **seen < operation.invoked)
            {
                let what = format!("its revision {} had been seen at {seen}, before it began", given.revision);
                return Err(Violation::new(Rule::FromTheFuture, [at], what));
            }
            let fits = given.revision > floor.revision || (given.revision == floor.revision && !writes);
            if fits || (is_local(&operation.request) && !writes) {
                continue;
            }
            let earlier = floor.operation.expect("a floor above the start was set by an operation");
            let saw_it_coming = writes && self.writers.get(&self.seen_revision(earlier)) != Some(&earlier);
            let rule = if saw_it_coming { Rule::FromTheFuture } else { Rule::RealTime };
            let what = format!(
                "it saw revision {}, but began after another had returned with {}",
                given.revision, floor.revision
            );
            return Err(Violation::new(rule, [earlier, at], what));
        }
        Ok(())
    }

    fn seen_revision(&self, operation: usize) -> i64 {
        self.revisions[operation].unwrap_or(self.history.start)
    }

    fn check_compactions(&self) -> Result<(), Violation> {
        let operations = || self.history.operations.iter().enumerate();
        let asked: Vec<(usize, &Operation, i64)> = operations()
            .filter_map(|(at, operation)| match operation.request {
                Request::Compact(revision) => Some((at, operation, revision)),
                _ => None,
            })
            .collect();
        for (at, operation) in operations() {
            match &operation.outcome {
                Outcome::Answered(given) => {
                    let forbidden = |compacted: i64| match &operation.request {
                        Request::Compact(revision) => *revision <= compacted,
                        request => oldest_read(request).is_some_and(|oldest| oldest < compacted),
                    };
                    for &(other, compaction, compacted) in &asked {
                        let Some(done) = answer(compaction).filter(|_| forbidden(compacted) && other != at) else {
                            continue;
                        };
                        let is_before = done.revision < given.revision
                            || (compaction.returned < operation.invoked && !is_local(&operation.request));
                        if is_before {
                            let what = format!("it was answered although {compacted} had been compacted");
                            return Err(Violation::new(Rule::Compaction, [other, at], what));
                        }
                    }
                    if let Request::Compact(revision) = operation.request
                        && revision > given.revision
                    {
                        let what = format!("{revision} was compacted when the newest was {}", given.revision);
                        return Err(Violation::new(Rule::Compaction, [at], what));
                    }
                }
                Outcome::Refused(Refusal::Compacted) => {
                    let may_be_why = |compaction: &Operation, compacted: i64| {
                        let may_have_been = matches!(compaction.outcome, Outcome::Answered(_) | Outcome::Unknown);
                        let explains = match &operation.request {
                            Request::Compact(revision) => *revision <= compacted,
                            request => oldest_read(request).is_some_and(|oldest| oldest < compacted),
                        };
                        may_have_been && explains && compaction.invoked <= operation.returned
                    };
                    let is_negative = matches!(operation.request, Request::Compact(..0));
                    let why = asked.iter().any(|&(other, compaction, c)| other != at && may_be_why(compaction, c));
                    if !why && !is_negative {
                        return Err(Violation::new(Rule::WronglyRefused, [at], "nothing so new was ever compacted"));
                    }
                }
                Outcome::Refused(Refusal::FutureRevision) if !is_local(&operation.request) => {
                    let floor = self.floors.before(operation.invoked);
                    let newest = newest_read(&operation.request);
                    if newest.is_some_and(|newest| newest <= floor.revision) {
                        let what =
                            format!("{} is no future revision, {} had been seen", newest.unwrap_or(0), floor.revision);
                        let seen = floor.operation.into_iter().chain([at]).collect::<Vec<_>>();
                        return Err(Violation::new(Rule::WronglyRefused, seen, what));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keys hang only from leases that are there, and only those are renewed and revoked.
    fn check_leases(&self) -> Result<(), Violation> {
        let mut lives: BTreeMap<LeaseId, LeaseLife> = BTreeMap::new();
        for (at, operation) in self.history.operations.iter().enumerate() {
            match operation.request {
                Request::Grant { lease, .. }
                    if matches!(operation.outcome, Outcome::Answered(_) | Outcome::Unknown) =>
                {
                    lives.entry(lease).or_default().grants.push(at);
                }
                Request::Revoke(lease) if answer(operation).is_some() => {
                    lives.entry(lease).or_default().revoked.push(at);
                }
                _ => {}
            }
        }
        for expiry in self.expiries.iter().filter(|expiry| expiry.is_certain) {
            lives.entry(expiry.lease).or_default().lapsed = Some(expiry.revision);
        }
        for (at, operation) in self.history.operations.iter().enumerate() {
            if let (Request::Grant { lease, .. }, Outcome::Refused(Refusal::LeaseExists)) =
                (&operation.request, &operation.outcome)
                && !lives.get(lease).is_some_and(|life| self.is_granted_before(life, operation))
            {
                return Err(Violation::new(Rule::WronglyRefused, [at], "nobody had granted that lease before"));
            }
            for lease in self.leases_used(at) {
                let nothing = LeaseLife::default();
                self.check_lease_use(at, lease, lives.get(&lease).unwrap_or(&nothing))?;
            }
        }
        Ok(())
    }

    /// The leases that must have been there for an operation to end as it did.
    fn leases_used(&self, at: usize) -> BTreeSet<LeaseId> {
        let operation = &self.history.operations[at];
        let is_renewed = |answer: &Answer| !matches!(answer.body, Body::KeptAlive { ttl: 0 });
        match &operation.request {
            Request::Revoke(lease) if self.revisions[at].is_some() => BTreeSet::from([*lease]),
            Request::KeepAlive(lease) if answer(operation).is_some_and(is_renewed) => BTreeSet::from([*lease]),
            Request::Put(_) | Request::Txn(_) if self.is_writer(at) => {
                let changes = self.replay.changes(self.seen_revision(at)).iter();
                let leases = changes.filter_map(|change| Some(change.put.as_ref()?.1));
                leases.filter(|lease| *lease != LeaseId::NONE).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    fn check_lease_use(&self, at: usize, lease: LeaseId, life: &LeaseLife) -> Result<(), Violation> {
        let operations = &self.history.operations;
        let operation = &operations[at];
        if !self.is_granted_before(life, operation) {
            let what = format!("it needed lease {lease}, which nobody had granted");
            return Err(Violation::new(Rule::UnknownLease, [at], what));
        }
        let &[grant] = life.grants.as_slice() else { return Ok(()) };
        let others = life.revoked.iter().copied().filter(|&other| other != at);
        if let Some(end) = others
            .clone()
            .find(|&end| answer(&operations[end]).is_some() && operations[end].returned < operation.invoked)
        {
            let what = format!("it needed lease {lease}, which had been revoked");
            return Err(Violation::new(Rule::UnknownLease, [end, at], what));
        }
        // What a renewal saw is no place in the order.
        if matches!(operation.request, Request::KeepAlive(_)) {
            return Ok(());
        }
        // A write comes after all that saw the revision before it.
        let place = self.seen_revision(at) - i64::from(self.is_writer(at));
        let granted = self.revisions[grant].filter(|granted| *granted > place);
        let ended = others
            .filter_map(|end| self.revisions[end])
            .chain(life.lapsed)
            .find(|ended| *ended <= place && (self.is_writer(at) || *ended < place || life.lapsed == Some(*ended)));
        if let Some(other) = granted.or(ended) {
            let what = format!("it needed lease {lease} after revision {place}, which began or ended at {other}");
            return Err(Violation::new(Rule::UnknownLease, [grant, at], what));
        }
        Ok(())
    }

    fn is_granted_before(&self, life: &LeaseLife, operation: &Operation) -> bool {
        let returned = if answer(operation).is_some() { operation.returned } else { u64::MAX };
        life.grants.iter().any(|&grant| self.history.operations[grant].invoked <= returned)
    }

    fn is_writer(&self, at: usize) -> bool {
        self.revisions[at].is_some_and(|revision| self.writers.get(&revision) == Some(&at))
    }

    /// One life of one member never shows a client an older state than before.
    fn check_sessions(&self) -> Result<(), Violation> {
        let mut sessions: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
        for (at, operation) in self.history.operations.iter().enumerate() {
            if let (Some(session), Some(_)) = (operation.session, answer(operation)) {
                sessions.entry((operation.client, session)).or_default().push(at);
            }
        }
        for members in sessions.into_values() {
            let floors = Floors::of(members.iter().map(|&at| (at, &self.history.operations[at])));
            for at in members {
                let operation = &self.history.operations[at];
                let floor = floors.before(operation.invoked);
                let seen = answer(operation).map_or(i64::MAX, |given| given.revision);
                if let Some(earlier) = floor.operation.filter(|_| seen < floor.revision) {
                    let what = format!("revision {seen} was shown after {}", floor.revision);
                    return Err(Violation::new(Rule::SessionWentBack, [earlier, at], what));
                }
            }
        }
        Ok(())
    }

    fn wrong_answer(&self, at: usize, given: &Answer, expected: &Answer) -> Violation {
        let mut concerned = BTreeSet::from([at]);
        for revision in differing_revisions(&given.body, &expected.body) {
            concerned.extend(self.writers.get(&revision));
        }
        let what = format!("the answer was {given:?}, but the state gives {expected:?}");
        Violation::new(Rule::WrongAnswer, concerned.into_iter().collect::<Vec<_>>(), what)
    }

    fn with_writer(&self, at: usize, revision: i64) -> Vec<usize> {
        self.writers.get(&revision).copied().into_iter().chain([at]).collect()
    }
}

/// What made one lease and what ended it.
#[derive(Default)]
struct LeaseLife {
    grants: Vec<usize>,
    /// Answered revocations. Of the others it is only guessed which revision is theirs, if any.
    revoked: Vec<usize>,
    /// The revision in which it ran out.
    lapsed: Option<i64>,
}

/// The highest revision that had been seen by a point in time.
struct Floors {
    /// By time of return; revisions grow.
    steps: Vec<(u64, Floor)>,
    start: i64,
}

#[derive(Clone, Copy)]
struct Floor {
    revision: i64,
    operation: Option<usize>,
}

impl Floors {
    fn new(operations: &[Operation]) -> Floors {
        Floors::of(operations.iter().enumerate())
    }

    fn of<'a>(operations: impl Iterator<Item = (usize, &'a Operation)>) -> Floors {
        let mut returns: Vec<(u64, i64, usize)> = operations
            .filter_map(|(at, operation)| Some((operation.returned, answer(operation)?.revision, at)))
            .collect();
        returns.sort_unstable();
        let mut steps: Vec<(u64, Floor)> = Vec::new();
        for (returned, revision, at) in returns {
            if steps.last().is_none_or(|(_, floor)| floor.revision < revision) {
                steps.push((returned, Floor { revision, operation: Some(at) }));
            }
        }
        Floors { steps, start: i64::MIN }
    }

    /// By all that had returned before `time`.
    fn before(&self, time: u64) -> Floor {
        let after = self.steps.partition_point(|(returned, _)| *returned < time);
        after.checked_sub(1).map_or(Floor { revision: self.start, operation: None }, |last| self.steps[last].1)
    }
}

fn answer(operation: &Operation) -> Option<&Answer> {
    match &operation.outcome {
        Outcome::Answered(answer) => Some(answer),
        _ => None,
    }
}

/// Whether an answer may be of an older state: it came from one member alone.
fn is_local(request: &Request) -> bool {
    request.is_serializable() || matches!(request, Request::KeepAlive(_))
}

fn changes_something(body: &Body) -> bool {
    match body {
        Body::Put { .. } => true,
        Body::Deleted { count, .. } => *count > 0,
        Body::Txn { bodies, .. } => bodies.iter().any(changes_something),
        _ => false,
    }
}

/// Whether a request could make this change at all, in some state.
fn may_change(request: &Request, change: &Change) -> bool {
    let by = |step: &Step| match (step, &change.put) {
        (Step::Put(put), Some((value, lease))) => put.key == change.key && put.value == *value && put.lease == *lease,
        (Step::Delete { keys, .. }, None) => keys.contains(&change.key),
        _ => false,
    };
    match request {
        Request::Put(put) => by(&Step::Put(put.clone())),
        Request::Delete { keys, .. } => change.put.is_none() && keys.contains(&change.key),
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(by),
        _ => false,
    }
}

/// The revisions that a request asks for by number.
fn explicit_reads(request: &Request) -> Vec<i64> {
    let of_step = |step: &Step| match step {
        Step::Range(range) if range.revision > 0 => Some(range.revision),
        _ => None,
    };
    match request {
        Request::Range(range) if range.revision > 0 => vec![range.revision],
        Request::Compact(revision) => vec![*revision],
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).filter_map(of_step).collect(),
        _ => Vec::new(),
    }
}

fn oldest_read(request: &Request) -> Option<i64> {
    explicit_reads(request).into_iter().min()
}

fn newest_read(request: &Request) -> Option<i64> {
    explicit_reads(request).into_iter().max()
}

/// A revision that a plain range asks for and that lies past `revision`. Of transactions only one branch is executed, and
/// it is not known here which.
fn reads_beyond(request: &Request, revision: i64) -> Option<i64> {
    match request {
        Request::Range(range) => Some(range.revision).filter(|asked| *asked > revision),
        _ => None,
    }
}

/// Whether a given answer is the expected one; times to live are the lease checker's affair.
fn agree(expected: &Answer, given: &Answer) -> bool {
    match (&expected.body, &given.body) {
        (Body::Granted { ttl: asked }, Body::Granted { ttl }) => ttl >= asked,
        (Body::KeptAlive { .. }, Body::KeptAlive { .. }) => true,
        (expected, given) => expected == given,
    }
}

/// The revisions of the first keys in which two answers differ.
fn differing_revisions(given: &Body, expected: &Body) -> Vec<i64> {
    let shown = |body: &Body| -> Vec<KeyValue> {
        match body {
            Body::Put { previous } => previous.iter().cloned().collect(),
            Body::Deleted { previous, .. } => previous.clone(),
            Body::Range { kvs, .. } => kvs.clone(),
            _ => Vec::new(),
        }
    };
    if let (Body::Txn { bodies: given, .. }, Body::Txn { bodies: expected, .. }) = (given, expected) {
        let pairs = given.iter().zip(expected);
        return pairs
            .map(|(given, expected)| differing_revisions(given, expected))
            .find(|found| !found.is_empty())
            .unwrap_or_default();
    }
    let by_key = |body: &Body| shown(body).into_iter().map(|kv| (kv.key.clone(), kv)).collect::<BTreeMap<Bytes, _>>();
    let (given, expected) = (by_key(given), by_key(expected));
    let differing = given.keys().chain(expected.keys()).find(|key| given.get(*key) != expected.get(*key));
    let Some(key) = differing else { return Vec::new() };
    [given.get(key), expected.get(key)].into_iter().flatten().map(|kv| kv.modified).collect()
}
