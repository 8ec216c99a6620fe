//! Compaction that nobody asks for: the leader gives up history once it is older, or longer, than the operator wants it.
//!
//! By time, the revision is noted ten times a period (or an hour, if that is less). Once a period has passed since the start,
//! and then once a period (or an hour), history goes up to the oldest note that is kept: it is at least a period old. By count, every
//! five minutes all but the last so many revisions go. Every member notes and counts, so that whoever comes to lead knows what
//! to compact; only the leader asks the cluster to. What fails is tried again at the next look.
//!
//! [`AutoCompaction`] reads no clock and asks for nothing by itself; [`run`] does.
//!
//! Source: etcd-io/etcd `server/etcdserver/api/v3compactor`.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use api::etcdserverpb::CompactionRequest;
use env::{Clock, Monotonic};
use machine::ApplyError;
use tokio::time::sleep;

use crate::error::Error;
use crate::handle::Handle;
use crate::settings::Retention;

/// How often revisions are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(300);
/// By time, compactions are at most so far apart.
const COMPACTION_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// So many notes are made between two compactions.
const NOTES: u32 = 10;
/// The shortest time between two looks: periods below ten times this are for nobody.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// When to compact to what.
pub(crate) struct AutoCompaction {
    rule: Rule,
    look_interval: Duration,
    next_look: Monotonic,
    /// What the last compaction that was carried out went up to.
    last: i64,
}

enum Rule {
    ByTime {
        period: Duration,
        /// Revisions of the last looks, the oldest first; never empty.
        notes: VecDeque<i64>,
        notes_max: usize,
        /// Of the last compaction that was carried out, or the start.
        since: Monotonic,
        /// How long after `since` the next one is due.
        wait: Duration,
    },
    ByCount {
        kept: i64,
    },
}

impl AutoCompaction {
    /// Begins at `now`, when the store is at `revision`.
    pub(crate) fn new(retention: Retention, now: Monotonic, revision: i64) -> AutoCompaction {
        let (rule, look_interval) = match retention {
            Retention::Period(period) => {
                let look_interval = (period.min(COMPACTION_INTERVAL_MAX) / NOTES).max(LOOK_INTERVAL_MIN);
                let notes_max = period.div_duration_f64(look_interval) as usize + 1;
                let notes = VecDeque::from([revision]);
                (Rule::ByTime { period, notes, notes_max, since: now, wait: period }, look_interval)
            }
            Retention::Revisions(kept) => (Rule::ByCount { kept }, COUNT_INTERVAL),
        };
        AutoCompaction { rule, look_interval, next_look: now.plus(look_interval), last: 0 }
    }

    /// When to [`look`](AutoCompaction::look).
    pub(crate) fn next_look(&self) -> Monotonic {
        self.next_look
    }

    /// Looks at the store, which is at `revision`; returns the revision to compact to, if there is one and this member
    /// leads. Whether that was carried out, [`done`](AutoCompaction::done) has to be told.
    pub(crate) fn look(&mut self, now: Monotonic, revision: i64, leads: bool) -> Option<i64> {
        self.next_look = now.plus(self.look_interval);
        match &mut self.rule {
            Rule::ByTime { period, notes, notes_max, since, wait } => {
                let oldest = notes[0];
                if notes.len() == *notes_max {
                    notes.pop_front();
                }
                notes.push_back(revision);
                let is_due = leads && now.since(*since) >= *wait && oldest != self.last;
                if is_due {
                    *wait = (*period).min(COMPACTION_INTERVAL_MAX);
                }
                is_due.then_some(oldest)
            }
            Rule::ByCount { kept } => {
                let wanted = revision.saturating_sub(*kept);
                (leads && wanted > 0 && wanted != self.last).then_some(wanted)
            }
        }
    }

    /// At `now`, everything up to `revision` is compacted.
    pub(crate) fn done(&mut self, now: Monotonic, revision: i64) {
        self.last = revision;
        if let Rule::ByTime { since, .. } = &mut self.rule {
            *since = now;
        }
    }
}

/// Compacts as the settings say, until dropped.
pub(crate) async fn run(handle: &Handle) {
    let Some(retention) = handle.inner().settings.auto_compaction else { return pending().await };
    let store = || handle.view().revision();
    let compact = async |revision| {
        let request = CompactionRequest { revision, physical: false };
        handle.compact(request).await.map(|_| ())
    };
    compact_regularly(retention, handle.inner().clock.as_ref(), store, || handle.leads(), compact).await;
}

async fn compact_regularly(
    retention: Retention,
    clock: &dyn Clock,
    revision: impl Fn() -> i64,
    leads: impl Fn() -> bool,
    compact: impl AsyncFn(i64) -> Result<(), Error>,
) {
    let mut rule = AutoCompaction::new(retention, clock.now(), revision());
    loop {
        sleep(rule.next_look().since(clock.now())).await;
        let start = clock.now();
        let Some(wanted) = rule.look(start, revision(), leads()) else { continue };
        let log = Report { retention, revision: wanted };
        log.starting();
        match compact(wanted).await {
            // Somebody else was faster.
            Ok(()) | Err(Error::Apply(ApplyError::Compacted)) => {
                let now = clock.now();
                rule.done(now, wanted);
                log.completed(now.since(start));
            }
            Err(Error::Stopped) => {}
            Err(error) => log.failed(&error, rule.look_interval),
        }
    }
}

/// What the log says, in etcd's words.
struct Report {
    retention: Retention,
    revision: i64,
}

impl Report {
    fn starting(&self) {
        let revision = self.revision;
        match self.retention {
            Retention::Period(period) => {
                tracing::info!(revision, "compact-period" = ?period, "starting auto periodic compaction");
            }
            Retention::Revisions(kept) => {
                tracing::info!(revision, "revision-compaction-retention" = kept, "starting auto revision compaction");
            }
        }
    }

    fn completed(&self, took: Duration) {
        let revision = self.revision;
        match self.retention {
            Retention::Period(period) => {
                tracing::info!(revision, "compact-period" = ?period, ?took, "completed auto periodic compaction");
            }
            Retention::Revisions(kept) => {
                tracing::info!(
                    revision,
                    "revision-compaction-retention" = kept,
                    ?took,
                    "completed auto revision compaction"
                );
            }
        }
    }

    fn failed(&self, error: &Error, retry_interval: Duration) {
        let revision = self.revision;
        match self.retention {
            Retention::Period(period) => {
                tracing::warn!(
                    revision,
                    "compact-period" = ?period,
                    "retry-interval" = ?retry_interval,
                    %error,
                    "failed auto periodic compaction"
                );
            }
            Retention::Revisions(kept) => {
                tracing::warn!(
                    revision,
                    "revision-compaction-retention" = kept,
                    "retry-interval" = ?retry_interval,
                    %error,
                    "failed auto revision compaction"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn at(time: Duration) -> Monotonic {
        Monotonic(time)
    }

    /// Every look until `end`, with a revision a second and this member leading while `leads`; returns when something was
    /// compacted and to what. Whether that works, `works` says.
    fn compactions(
        retention: Retention,
        end: Duration,
        leads: impl Fn(Duration) -> bool,
        works: impl Fn(Duration) -> bool,
    ) -> Vec<(Duration, i64)> {
        let revision = |now: Monotonic| 1 + now.0.as_secs() as i64;
        let mut rule = AutoCompaction::new(retention, at(Duration::ZERO), 1);
        let mut found = Vec::new();
        while rule.next_look().0 <= end {
            let now = rule.next_look();
            let Some(wanted) = rule.look(now, revision(now), leads(now.0)) else { continue };
            if works(now.0) {
                rule.done(now, wanted);
                found.push((now.0, wanted));
            }
        }
        found
    }

    fn always(_: Duration) -> bool {
        true
    }

    fn in_minutes(found: &[(Duration, i64)]) -> Vec<(u64, i64)> {
        found.iter().map(|(when, revision)| (when.as_secs() / 60, revision / 60)).collect()
    }

    #[test]
    fn a_period_of_history_stays() {
        let found = compactions(Retention::Period(10 * MINUTE), 40 * MINUTE, always, always);
        assert_eq!(in_minutes(&found), [(10, 0), (20, 9), (30, 19), (40, 29)]);
    }

    #[test]
    fn long_periods_are_compacted_by_the_hour() {
        let found = compactions(Retention::Period(24 * HOUR), 28 * HOUR, always, always);
        let day = 24 * 60;
        let want = [(day, 0), (day + 60, 54), (day + 120, 114), (day + 180, 174), (day + 240, 234)];
        assert_eq!(in_minutes(&found), want);
        for (when, revision) in found {
            assert!(when.as_secs() as i64 - (revision - 1) >= 24 * 3600, "{when:?}");
        }
    }

    #[test]
    fn a_count_of_revisions_stays() {
        let found = compactions(Retention::Revisions(1000), 31 * MINUTE, always, always);
        let revisions: Vec<_> = found.iter().map(|(when, revision)| (when.as_secs(), *revision)).collect();
        assert_eq!(revisions, [(1200, 201), (1500, 501), (1800, 801)]);
    }

    #[test]
    fn nothing_is_asked_for_twice() {
        for retention in [Retention::Period(MINUTE), Retention::Revisions(5)] {
            let mut rule = AutoCompaction::new(retention, at(Duration::ZERO), 9);
            let mut asked = Vec::new();
            while rule.next_look().0 < HOUR {
                let now = rule.next_look();
                if let Some(wanted) = rule.look(now, 9, true) {
                    rule.done(now, wanted);
                    asked.push(wanted);
                }
            }
            assert_eq!(asked.len(), 1, "{retention:?}: {asked:?}");
        }
    }

    /// It has noted revisions all along, so it need not wait for a period.
    #[test]
    fn who_comes_to_lead_goes_on_and_who_does_not_lead_asks_for_nothing() {
        let leads = |now: Duration| now > 25 * MINUTE;
        let found = compactions(Retention::Period(10 * MINUTE), 40 * MINUTE, leads, always);
        assert_eq!(in_minutes(&found), [(26, 15), (36, 25)]);
        let found = compactions(Retention::Revisions(60), 31 * MINUTE, leads, always);
        assert_eq!(in_minutes(&found), [(30, 29)]);
        assert_eq!(compactions(Retention::Revisions(60), 31 * MINUTE, |_| false, always), []);
    }

    #[test]
    fn what_fails_is_tried_again_at_the_next_look() {
        let works = |now: Duration| now > 14 * MINUTE;
        let found = compactions(Retention::Period(10 * MINUTE), 16 * MINUTE, always, works);
        assert_eq!(in_minutes(&found), [(15, 4)]);
    }

    #[test]
    fn periods_of_any_length_do_no_harm() {
        for period in [Duration::from_nanos(1), Duration::from_millis(1), Duration::MAX] {
            let mut rule = AutoCompaction::new(Retention::Period(period), at(Duration::ZERO), 1);
            for _ in 0..20 {
                let now = rule.next_look();
                assert!(rule.next_look() >= at(LOOK_INTERVAL_MIN));
                rule.look(now, 5, true);
            }
        }
    }

    /// Tells the time that tokio's paused clock has.
    struct PausedClock(tokio::time::Instant);

    impl Clock for PausedClock {
        fn now(&self) -> Monotonic {
            Monotonic(self.0.elapsed())
        }

        fn wall(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_runner_compacts_by_the_clock_it_is_given() {
        let clock = PausedClock(tokio::time::Instant::now());
        let (asked, refusals) = (RefCell::new(Vec::new()), Cell::new(0));
        let revision = || clock.now().0.as_secs() as i64;
        let compact = async |revision| {
            asked.borrow_mut().push((clock.now().0.as_secs(), revision));
            refusals.set(refusals.get() + 1);
            match refusals.get() {
                1 => Err(Error::NoLeader),
                2 => Err(Error::Apply(ApplyError::Compacted)),
                _ => Ok(()),
            }
        };
        let running = compact_regularly(Retention::Revisions(100), &clock, revision, || true, compact);
        assert!(tokio::time::timeout(16 * MINUTE, running).await.is_err(), "it never ends by itself");
        assert_eq!(asked.into_inner(), [(300, 200), (600, 500), (900, 800)]);
    }
}
