//! Watches that come and go by the thousand under writes: each gets exactly what it asked for.
//!
//! `E2E_WATCHES` chooses how many a test makes; the full number is 50,000.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::watch_create_request::FilterType;
use api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use e2e::request::{op_delete, op_put, put, txn, watch, watch_cancel, watch_create, watch_progress, watch_range};
use e2e::{Difference, Member, Target, Watch, chosen, revision, shown};
use testkit::grpc::Client;
use tokio::task::JoinSet;

/// What every run does.
const WATCHES: i64 = 2000;

const STREAMS: i64 = 4;

/// How many watches of a stream are there at once.
const LIVE_MAX: usize = 50;

/// How many requests of a stream may await their answers.
const UNANSWERED_MAX: usize = 20;

/// How far back or ahead watches start.
const REACH: i64 = 300;

/// Each revision is one transaction of the one writer, so what it holds follows from its number.
async fn write(client: Client, written: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let next = written.load(Ordering::Relaxed) + 1;
        let third = if next % 2 == 0 { op_put("c", next.to_string()) } else { op_delete("c") };
        let ops = [op_put(format!("a{}", next % 5), next.to_string()), op_put("b", next.to_string()), third];
        let answer = client.txn(txn(ops)).await?;
        ensure!(revision(&answer.header) == next, "revision {} instead of {next}", revision(&answer.header));
        written.store(next, Ordering::Relaxed);
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Interest {
    /// Three events a revision.
    All,
    /// One event a revision.
    B,
    /// One event in five revisions.
    A2,
    /// One event in two revisions: what is left of `c` without its puts.
    DeletionsOfC,
}

impl Interest {
    const EVERY: [Interest; 4] = [Interest::All, Interest::B, Interest::A2, Interest::DeletionsOfC];

    fn create(self) -> WatchCreateRequest {
        match self {
            Interest::All => watch_range("a", "d"),
            Interest::B => watch("b"),
            Interest::A2 => watch("a2"),
            Interest::DeletionsOfC => {
                WatchCreateRequest { filters: vec![FilterType::Noput.into()], ..watch_range("c", "d") }
            }
        }
    }

    fn events(self, at: i64) -> Vec<String> {
        let a = format!("PUT a{}={at}@{at}", at % 5);
        let b = format!("PUT b={at}@{at}");
        match (self, at % 2) {
            (Interest::All, 0) => vec![a, b, format!("PUT c={at}@{at}")],
            (Interest::All, _) => vec![a, b, format!("DELETE c@{at}")],
            (Interest::B, _) => vec![b],
            (Interest::A2, _) if at % 5 == 2 => vec![a],
            (Interest::DeletionsOfC, 1) => vec![format!("DELETE c@{at}")],
            _ => vec![],
        }
    }

    /// The first revision from `from` on that has events; there is one in five at least.
    fn next(self, from: i64) -> i64 {
        (from..from + 10).find(|&at| !self.events(at).is_empty()).expect("one in five revisions has events")
    }
}

/// One watch and what it has seen.
#[derive(Debug)]
struct Seen {
    interest: Interest,
    /// The lowest revision whose events may still come; 0 until the answer to its creation says so.
    next: i64,
    created: bool,
    /// Whether its first event is one that `next` tells.
    divided: bool,
    cancelling: bool,
}

impl Seen {
    /// Takes events: whole revisions, none left out, none twice, none out of order.
    fn take(&mut self, response: &WatchResponse) -> Result<()> {
        let mut left = response.events.iter().map(shown).collect::<Vec<_>>();
        while !left.is_empty() {
            let at = self.interest.next(self.next);
            let expected = self.interest.events(at);
            ensure!(left.starts_with(&expected), "{left:?} instead of {expected:?}");
            left.drain(..expected.len());
            self.next = at + 1;
            ensure!(revision(&response.header) >= at, "the header is at {} before {at}", revision(&response.header));
        }
        Ok(())
    }

    /// Whether it has seen all up to `at`.
    fn is_past(&self, at: i64) -> bool {
        self.interest.next(self.next) > at
    }
}

/// One stream on which watches come and go.
struct Churn {
    stream: Watch,
    watches: BTreeMap<i64, Seen>,
    /// Whether watches from now on begin after the revision of the answer to their creation.
    divided: bool,
    uncreated: usize,
    uncancelled: usize,
}

impl Churn {
    async fn run(client: Client, divided: bool, seed: u64, count: i64, written: Arc<AtomicI64>) -> Result<Churn> {
        let stream = Watch::open(&client).await?;
        let mut churn = Churn { stream, watches: BTreeMap::new(), divided, uncreated: 0, uncancelled: 0 };
        let mut random = fastrand::Rng::with_seed(seed);
        for id in 1..=count {
            let now = written.load(Ordering::Relaxed);
            let start = match random.u32(0..8) {
                0..3 => 0,
                3 => now + random.i64(1..REACH),
                _ => random.i64((now - REACH).max(2)..=now.max(2)),
            };
            churn.create(id, random.choice(Interest::EVERY).expect("there are four"), start)?;
            if random.u32(0..10) == 0 {
                churn.stream.send(&watch_progress())?;
            }
            if churn.watches.len() > LIVE_MAX {
                // Often one that has only just begun.
                let created: Vec<i64> =
                    churn.watches.iter().filter(|(_, w)| !w.cancelling).map(|(&id, _)| id).collect();
                churn.cancel(random.choice(created).context("some watch is not being cancelled")?)?;
            }
            while churn.uncreated > UNANSWERED_MAX || churn.uncancelled > UNANSWERED_MAX {
                churn.read().await.with_context(|| format!("seed {seed}, watch {id}"))?;
            }
        }
        Ok(churn)
    }

    fn create(&mut self, id: i64, interest: Interest, start_revision: i64) -> Result<()> {
        self.stream.send(&watch_create(WatchCreateRequest { watch_id: id, start_revision, ..interest.create() }))?;
        self.watches
            .insert(id, Seen { interest, next: start_revision, created: false, divided: true, cancelling: false });
        self.uncreated += 1;
        Ok(())
    }

    fn cancel(&mut self, id: i64) -> Result<()> {
        self.stream.send(&watch_cancel(id))?;
        self.watches.get_mut(&id).context("it is there")?.cancelling = true;
        self.uncancelled += 1;
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let response = self.stream.next().await?;
        if response.watch_id == -1 {
            let notice = revision(&response.header);
            let behind = self.watches.iter().find(|(_, watch)| watch.created && !watch.is_past(notice));
            ensure!(response.events.is_empty() && !response.canceled, "{response:?}");
            ensure!(behind.is_none(), "progress to {notice} before {behind:?} has its events");
            return Ok(());
        }
        let id = response.watch_id;
        let seen = self.watches.get_mut(&id).with_context(|| format!("no such watch: {response:?}"))?;
        ensure!(response.created != seen.created, "created once and first: {response:?}");
        if response.created {
            seen.created = true;
            self.uncreated -= 1;
            if seen.next == 0 {
                seen.next = revision(&response.header) + 1;
                seen.divided = self.divided;
            }
        } else if !seen.divided {
            seen.divided = true;
            let first = response.events.first().and_then(|event| event.kv.as_ref());
            seen.next = seen.next.min(first.map_or(i64::MAX, |kv| kv.mod_revision));
        }
        seen.take(&response).with_context(|| format!("watch {id}, {seen:?}"))?;
        if response.canceled {
            ensure!(seen.cancelling, "nobody cancelled {id}: {response:?}");
            self.uncancelled -= 1;
            self.watches.remove(&id);
        }
        Ok(())
    }

    /// Every watch that nobody cancelled gets all that was written.
    async fn finish(&mut self, last: i64) -> Result<()> {
        while self.watches.values().any(|watch| watch.cancelling || !watch.created || !watch.is_past(last)) {
            self.read().await.context("at the end")?;
        }
        Ok(())
    }
}

/// #20655 and PR 13541: created and cancelled as fast as the server goes, in step, behind and ahead.
async fn watches_that_come_and_go_get_what_is_theirs(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let (written, stop) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn(write(member.connect().await?, written.clone(), stop.clone()));
    let divided = Difference::CreationDividesEvents.shows(target);
    let mut running = JoinSet::new();
    let shared = member.connect().await?;
    for number in 0..STREAMS {
        // Two streams share a connection.
        let client = if number < 2 { shared.clone() } else { member.connect().await? };
        running.spawn(Churn::run(
            client,
            divided,
            number as u64,
            chosen("E2E_WATCHES", WATCHES)? / STREAMS,
            written.clone(),
        ));
    }
    let mut churns = Vec::new();
    while let Some(churn) = running.join_next().await {
        churns.push(churn??);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await??;
    let last = written.load(Ordering::Relaxed);
    for churn in &mut churns {
        churn.finish(last).await?;
    }
    drop(churns);
    let mut after = Watch::start(&member, watch("after")).await?;
    member.put(put("after", "all")).await?;
    assert_eq!(after.events(1).await?.len(), 1);
    Ok(())
}

e2e::on_both_targets!(unlimited: watches_that_come_and_go_get_what_is_theirs);
