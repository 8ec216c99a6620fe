//! Watches, against etcd's nine guarantees.
//!
//! | guarantee | here |
//! |---|---|
//! | ordered: events come by revision | [`Rule::WatchUnordered`] |
//! | unique: none comes twice | [`Rule::WatchRepeated`] |
//! | reliable: none between two that came is missing | [`Rule::WatchLost`] |
//! | atomic: those of one revision come together | [`Rule::WatchTorn`] |
//! | resumable: a watch begins exactly where it was asked to | [`Rule::WatchNotResumed`], [`Rule::WatchLost`] |
//! | bookmarkable: after progress at a revision nothing up to it comes | [`Rule::WatchBookmark`] |
//! | the previous key is the one before the event | [`Rule::WatchPrevious`] |
//! | filters and ranges are kept to | [`Rule::WatchFilter`] |
//! | progress is of a revision that exists | [`Rule::WatchProgress`] |
//!
//! And no event is other than what the store did: [`Rule::WatchInvented`].
//!
//! Source: etcd API guarantees, "Watch APIs".

use types::KeyRange;

use crate::history::{Change, History, KeyValue, Outcome, Request};
use crate::ordered::Findings;
use crate::violation::{Rule, Violation};

/// One change, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub is_delete: bool,
    /// Of a deletion, key and `modified` only.
    pub kv: KeyValue,
    pub previous: Option<KeyValue>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Created,
    /// `is_fragment` if more of the same response follows.
    Events {
        events: Vec<Event>,
        is_fragment: bool,
    },
    Progress,
    /// Ended, because what was to come next is compacted.
    Compacted(i64),
    Cancelled,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub at: u64,
    /// Of the header.
    pub revision: i64,
    pub received: Received,
}

/// One watch, from its request to its end or the loss of the connection.
#[derive(Clone, Debug)]
pub struct WatchSession {
    pub keys: KeyRange,
    /// 0 for "from now on".
    pub start: i64,
    pub previous: bool,
    pub no_puts: bool,
    pub no_deletes: bool,
    pub responses: Vec<Response>,
    /// The watch was open for long enough to have got everything up to here.
    pub complete_to: Option<i64>,
}

impl WatchSession {
    /// All of `keys`, unfiltered.
    pub fn new(keys: KeyRange, start: i64) -> WatchSession {
        WatchSession {
            keys,
            start,
            previous: false,
            no_puts: false,
            no_deletes: false,
            responses: Vec::new(),
            complete_to: None,
        }
    }

    /// Where the next watch has to start so that nothing is lost: after the last event or progress; `None` if this one
    /// never began.
    pub fn resume_from(&self) -> Option<i64> {
        let mut from = (self.start > 0).then_some(self.start);
        for response in &self.responses {
            let seen = match &response.received {
                Received::Created if self.start == 0 => response.revision,
                Received::Events { events, .. } => events.iter().map(|event| event.kv.modified).max().unwrap_or(0),
                Received::Progress => response.revision,
                _ => continue,
            };
            from = from.max(Some(seen + 1));
        }
        from
    }
}

/// Adds what a watch of all keys without filters saw to what is known of the store's past. Other watches tell nothing.
///
/// # Errors
/// [`Rule::WatchInvented`] if another watch saw the same revision do something else.
pub fn learn(history: &mut History, session: &WatchSession) -> Result<(), Violation> {
    if session.keys != KeyRange::all() || session.no_puts || session.no_deletes {
        return Ok(());
    }
    let mut learned: Vec<(usize, i64, Vec<Change>)> = Vec::new();
    for (at, response) in session.responses.iter().enumerate() {
        let Received::Events { events, .. } = &response.received else { continue };
        for event in events {
            let put = (!event.is_delete).then(|| (event.kv.value.clone(), event.kv.lease));
            let change = Change { key: event.kv.key.clone(), put };
            match learned.last_mut() {
                Some((_, revision, changes)) if *revision == event.kv.modified => changes.push(change),
                _ => learned.push((at, event.kv.modified, vec![change])),
            }
        }
    }
    for (at, revision, changes) in learned {
        let seen = session.responses[at].at;
        history.seen.entry(revision).and_modify(|first| *first = seen.min(*first)).or_insert(seen);
        let known = history.log.entry(revision).or_insert_with(|| changes.clone());
        if *known != changes {
            let what = format!("revision {revision} did {known:?} for one watch and {changes:?} for another");
            return Err(Violation::new(Rule::WatchInvented, [at], what));
        }
    }
    Ok(())
}

/// Judges one watch by what the store did. The violation's operations are positions in the responses.
///
/// # Errors
/// The first promise broken.
pub fn check_watch(history: &History, findings: &Findings, session: &WatchSession) -> Result<(), Violation> {
    let mut follower =
        Follower { history, findings, session, next: session.start, within: 0, is_created: false, seen: 0 };
    let mut has_ended = false;
    for (at, response) in session.responses.iter().enumerate() {
        let is_out_of_place = has_ended || (follower.is_created == (response.received == Received::Created));
        if is_out_of_place {
            return Err(Violation::new(Rule::WatchProtocol, [at], "a response out of place"));
        }
        follower.require_past(at, response)?;
        match &response.received {
            Received::Created => {
                follower.is_created = true;
                if session.start == 0 {
                    follower.next = response.revision + 1;
                }
            }
            Received::Events { events, is_fragment } => follower.take(at, events, *is_fragment)?,
            Received::Progress => follower.progress(at, response.revision)?,
            Received::Compacted(revision) => {
                has_ended = true;
                follower.require_compacted(at, *revision)?;
            }
            Received::Cancelled => has_ended = true,
        }
        follower.seen = follower.seen.max(response.revision);
    }
    match session.complete_to {
        Some(revision) if !has_ended => follower.require_all(session.responses.len(), revision, Rule::WatchLost),
        _ => Ok(()),
    }
}

struct Follower<'a> {
    history: &'a History,
    findings: &'a Findings,
    session: &'a WatchSession,
    /// The revision of which the next event may be.
    next: i64,
    /// So many changes of revision `next` were seen, or passed over.
    within: usize,
    is_created: bool,
    /// The highest revision told so far.
    seen: i64,
}

impl Follower<'_> {
    /// No response knows what nobody had asked for.
    fn require_past(&self, at: usize, response: &Response) -> Result<(), Violation> {
        let replay = &self.findings.replay;
        let is_end = matches!(response.received, Received::Compacted(_) | Received::Cancelled);
        let writer = self.findings.writers.get(&response.revision);
        let is_unborn = writer.is_some_and(|&writer| self.history.operations[writer].invoked > response.at);
        if !is_end && (response.revision > replay.last() || is_unborn) {
            let what = format!("revision {} did not exist yet", response.revision);
            return Err(Violation::new(Rule::WatchProgress, [at], what));
        }
        if let Received::Events { events, .. } = &response.received
            && let Some(late) = events.iter().find(|event| event.kv.modified > response.revision)
        {
            let what = format!("the header says {}, an event {}", response.revision, late.kv.modified);
            return Err(Violation::new(Rule::WatchProgress, [at], what));
        }
        Ok(())
    }

    fn take(&mut self, at: usize, events: &[Event], is_fragment: bool) -> Result<(), Violation> {
        for event in events {
            self.take_one(at, event)?;
        }
        if is_fragment || self.within == 0 {
            return Ok(());
        }
        // The revision has to be complete with this response.
        if let Some(missing) = self.next_wanted(self.next) {
            let rule = if self.comes_later(at, self.next, &missing) { Rule::WatchTorn } else { Rule::WatchLost };
            let what = format!("revision {} came without {:?}", self.next, missing.key);
            return Err(Violation::new(rule, [at], what));
        }
        (self.next, self.within) = (self.next + 1, 0);
        Ok(())
    }

    fn take_one(&mut self, at: usize, event: &Event) -> Result<(), Violation> {
        let violation = |rule, what: String| Err(Violation::new(rule, [at], what));
        let (revision, key) = (event.kv.modified, &event.kv.key);
        let is_filtered = if event.is_delete { self.session.no_deletes } else { self.session.no_puts };
        if !self.session.keys.contains(key) || is_filtered {
            return violation(Rule::WatchFilter, format!("{key:?} at {revision} was not asked for"));
        }
        let changes = self.findings.replay.changes(revision);
        let Some(place) = changes.iter().position(|change| is_of(change, event)) else {
            return violation(Rule::WatchInvented, format!("revision {revision} did not do {event:?}"));
        };
        if revision < self.next || (revision == self.next && place < self.within) {
            let was_seen = self.came_before(at, event);
            let rule = match (was_seen, revision < self.session.start) {
                (true, _) => Rule::WatchRepeated,
                (false, true) => Rule::WatchNotResumed,
                (false, false) => Rule::WatchUnordered,
            };
            return violation(rule, format!("{key:?} at {revision} came when {} was next", self.next));
        }
        if revision > self.next {
            self.require_all(at, revision - 1, Rule::WatchLost)?;
            (self.next, self.within) = (revision, 0);
        }
        let skipped = changes[self.within..place].iter().find(|change| self.wants(change));
        if let Some(skipped) = skipped.cloned() {
            let rule = if self.comes_later(at, revision, &skipped) { Rule::WatchUnordered } else { Rule::WatchLost };
            return violation(rule, format!("{:?} at {revision} was passed over", skipped.key));
        }
        self.within = place + 1;
        self.require_content(at, event)
    }

    fn require_content(&self, at: usize, event: &Event) -> Result<(), Violation> {
        let replay = &self.findings.replay;
        let revision = event.kv.modified;
        if !event.is_delete && replay.get(&event.kv.key, revision) != Some(&event.kv) {
            let what = format!("{:?} came as {:?}", replay.get(&event.kv.key, revision), event.kv);
            return Err(Violation::new(Rule::WatchInvented, [at], what));
        }
        let before = replay.get(&event.kv.key, revision - 1);
        let is_right = match (&event.previous, self.session.previous) {
            (given, true) if given.as_ref() == before => true,
            (None, true) => self.was_compacted(revision),
            (given, false) => given.is_none(),
            _ => false,
        };
        if !is_right {
            let what = format!("before {revision} there was {before:?}, the event says {:?}", event.previous);
            return Err(Violation::new(Rule::WatchPrevious, [at], what));
        }
        Ok(())
    }

    fn progress(&mut self, at: usize, revision: i64) -> Result<(), Violation> {
        if revision < self.seen {
            let what = format!("progress at {revision} after {}", self.seen);
            return Err(Violation::new(Rule::WatchProgress, [at], what));
        }
        self.require_all(at, revision, Rule::WatchBookmark)?;
        if revision >= self.next {
            (self.next, self.within) = (revision + 1, 0);
        }
        Ok(())
    }

    /// Nothing up to `revision` is still to come.
    fn require_all(&self, at: usize, revision: i64, rule: Rule) -> Result<(), Violation> {
        for (missing, changes) in self.findings.replay.since(self.next).take_while(|(missing, _)| *missing <= revision)
        {
            let from = if missing == self.next { self.within } else { 0 };
            if let Some(change) = changes[from..].iter().find(|change| self.wants(change)) {
                let what = format!("{:?} at {missing} had not come, and {revision} was passed", change.key);
                let is_misplaced = rule == Rule::WatchLost && self.comes_later(at, missing, change);
                let rule = if is_misplaced { Rule::WatchUnordered } else { rule };
                return Err(Violation::new(rule, [at], what));
            }
        }
        Ok(())
    }

    fn require_compacted(&self, at: usize, revision: i64) -> Result<(), Violation> {
        if self.next < revision && self.was_compacted(revision) {
            return Ok(());
        }
        let what = format!("ended as compacted at {revision}, but {} was next", self.next);
        Err(Violation::new(Rule::Compaction, [at], what))
    }

    /// Whether anybody asked for a compaction at or past `revision`.
    fn was_compacted(&self, revision: i64) -> bool {
        self.history.operations.iter().any(|operation| {
            matches!(operation.request, Request::Compact(asked) if asked >= revision)
                && matches!(operation.outcome, Outcome::Answered(_) | Outcome::Unknown)
        })
    }

    fn wants(&self, change: &Change) -> bool {
        let is_filtered = if change.put.is_some() { self.session.no_puts } else { self.session.no_deletes };
        self.session.keys.contains(&change.key) && !is_filtered
    }

    fn next_wanted(&self, revision: i64) -> Option<Change> {
        let changes = &self.findings.replay.changes(revision)[self.within..];
        changes.iter().find(|change| self.wants(change)).cloned()
    }

    fn comes_later(&self, at: usize, revision: i64, change: &Change) -> bool {
        let later = self.session.responses[at.min(self.session.responses.len())..].iter();
        later.flat_map(events_of).any(|event| event.kv.modified == revision && is_of(change, event))
    }

    fn came_before(&self, at: usize, event: &Event) -> bool {
        let same = |other: &&Event| other.kv.modified == event.kv.modified && other.kv.key == event.kv.key;
        let before = self.session.responses[..at].iter().flat_map(events_of).any(|other| same(&other));
        before || events_of(&self.session.responses[at]).iter().filter(same).count() > 1
    }
}

fn events_of(response: &Response) -> &[Event] {
    match &response.received {
        Received::Events { events, .. } => events,
        _ => &[],
    }
}

fn is_of(change: &Change, event: &Event) -> bool {
    let is_same_put = |(value, lease): &(bytes::Bytes, types::LeaseId)| {
        !event.is_delete && *value == event.kv.value && *lease == event.kv.lease
    };
    change.key == event.kv.key && change.put.as_ref().map_or(event.is_delete, is_same_put)
}
