//! SIGKILL under load: what was acknowledged is there after the restart, and no revision is given twice.
//!
//! `E2E_KILL_CYCLES` chooses how often; a release wants 300.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::RangeRequest;
use e2e::request::{get, op_put, put, range, txn};
use e2e::{Member, Target, chosen, revision};
use testkit::grpc::Client;
use tokio::task::JoinSet;

/// What every run does.
const CYCLES: u32 = 6;

const WRITERS: u32 = 8;

/// How many of each writer's last acknowledged writes are read back at their own revisions.
const READ_BACK: usize = 30;

/// A write that was answered.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    value: u64,
    revision: i64,
}

/// A client that writes rising numbers to two keys of its own, both at once or one after the other.
#[derive(Debug)]
struct Writer {
    number: u32,
    /// The last value it sent.
    sent: u64,
    acknowledged: Vec<Acknowledged>,
}

impl Writer {
    fn first(&self) -> String {
        format!("writer{}/first", self.number)
    }

    fn second(&self) -> String {
        format!("writer{}/second", self.number)
    }

    /// Writes until the connection breaks.
    async fn run(mut self, address: SocketAddr) -> Writer {
        let Ok(client) = Client::connect(address).await else { return self };
        loop {
            self.sent += 1;
            let value = self.sent.to_string();
            // Every third write is to both keys; otherwise they drift apart, the first ahead.
            let header = match self.sent % 3 {
                0 => client
                    .txn(txn([op_put(self.first(), &value), op_put(self.second(), &value)]))
                    .await
                    .map(|a| a.header),
                _ => client.put(put(self.first(), &value)).await.map(|answer| answer.header),
            };
            match header {
                Ok(header) => {
                    self.acknowledged.push(Acknowledged { value: self.sent, revision: revision(&header) });
                }
                Err(_) => return self,
            }
        }
    }

    /// Checks what the restarted server holds against what was acknowledged, and goes on from there: a write that was
    /// not answered may be there or not.
    async fn check(&mut self, member: &Member) -> Result<()> {
        let Some(last) = self.acknowledged.last() else { return Ok(()) };
        let pair = member.range(get(self.first())).await?.kvs.pop().context("the acknowledged key is gone")?;
        let value: u64 = std::str::from_utf8(&pair.value)?.parse()?;
        ensure!(value >= last.value && value <= self.sent, "{} after {last:?}, {} sent", value, self.sent);
        ensure!(pair.mod_revision >= last.revision, "revision {} after {last:?}", pair.mod_revision);
        self.check_both_or_none(member, value).await?;
        let recent = self.acknowledged.len().saturating_sub(READ_BACK);
        for acknowledged in &self.acknowledged[recent..] {
            let then = RangeRequest { revision: acknowledged.revision, ..get(self.first()) };
            let pair = member.range(then).await?.kvs.pop().with_context(|| format!("{acknowledged:?} is gone"))?;
            ensure!(pair.value == acknowledged.value.to_string(), "{acknowledged:?} reads {pair:?}");
            ensure!(pair.mod_revision == acknowledged.revision, "{acknowledged:?} reads {pair:?}");
        }
        self.sent = value;
        Ok(())
    }

    /// The second key has the last value that was written to both.
    async fn check_both_or_none(&self, member: &Member, first: u64) -> Result<()> {
        let expected = (first / 3 > 0).then(|| (first - first % 3).to_string());
        let second = member.range(get(self.second())).await?.kvs.pop();
        let second = second.map(|pair| String::from_utf8_lossy(&pair.value).into_owned());
        ensure!(second == expected, "first is {first}, second is {second:?}");
        Ok(())
    }
}

async fn one_cycle(member: &mut Member, writers: Vec<Writer>, load: Duration) -> Result<Vec<Writer>> {
    let mut running: JoinSet<Writer> = writers.into_iter().map(|writer| writer.run(member.address())).collect();
    tokio::time::sleep(load).await;
    member.kill()?;
    let mut writers = Vec::new();
    while let Some(writer) = running.join_next().await {
        writers.push(writer?);
    }
    member.restart().await?;
    let now = revision(&member.range(range("\0", "\0")).await?.header);
    let acknowledged = writers.iter().filter_map(|writer| writer.acknowledged.last());
    let last = acknowledged.map(|last| last.revision).max().unwrap_or(0);
    ensure!(now >= last, "the store is at {now}, but {last} was acknowledged");
    for writer in &mut writers {
        writer.check(member).await.with_context(|| format!("writer {}", writer.number))?;
    }
    Ok(writers)
}

async fn acknowledged_writes_survive_sigkill(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let writer = |number| Writer { number, sent: 0, acknowledged: Vec::new() };
    let mut writers: Vec<Writer> = (0..WRITERS).map(writer).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for cycle in 1..=chosen("E2E_KILL_CYCLES", CYCLES)? {
        let load = Duration::from_millis(random.u64(20..600));
        writers = one_cycle(&mut member, writers, load).await.with_context(|| format!("{target}, cycle {cycle}"))?;
    }
    let written: usize = writers.iter().map(|writer| writer.acknowledged.len()).sum();
    ensure!(written > 100, "only {written} writes were acknowledged");
    Ok(())
}

e2e::on_both_targets!(unlimited: acknowledged_writes_survive_sigkill);
