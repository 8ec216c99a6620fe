//! SIGKILL under load, to one member alone and to one, two or all of three: what was acknowledged is there after the
//! restart, no revision is given twice, and members hold the same.
//!
//! `E2E_KILL_CYCLES` and `E2E_CLUSTER_KILL_CYCLES` choose how often; a release wants 300 and 500.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::RangeRequest;
use e2e::request::{get, op_put, put, range, txn};
use e2e::{Cluster, Member, Target, chosen, revision, within};
use testkit::grpc::Client;
use tokio::task::JoinSet;

/// What every run does.
const CYCLES: u32 = 6;

/// The same for three members.
const CLUSTER_CYCLES: u32 = 6;

const WRITERS: u32 = 8;

/// No cycle takes this long.
const CYCLE_LIMIT: Duration = Duration::from_secs(60);

/// A write that takes longer is given up: its member waits for a leader.
const WRITE_LIMIT: Duration = Duration::from_secs(3);

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

    /// Writes until the connection breaks, a write fails, or time is up: a write that was not answered may come late,
    /// so nothing may follow it.
    async fn run(mut self, address: SocketAddr, time: Duration) -> Writer {
        let end = tokio::time::Instant::now() + time;
        let Ok(client) = Client::connect(address).await else { return self };
        while tokio::time::Instant::now() < end {
            self.sent += 1;
            let value = self.sent.to_string();
            // Every third write is to both keys; otherwise they drift apart, the first ahead.
            let written = async {
                match self.sent % 3 {
                    0 => {
                        let both = txn([op_put(self.first(), &value), op_put(self.second(), &value)]);
                        client.txn(both).await.map(|answer| answer.header)
                    }
                    _ => client.put(put(self.first(), &value)).await.map(|answer| answer.header),
                }
            };
            let Ok(Ok(header)) = within(WRITE_LIMIT, written).await else { return self };
            self.acknowledged.push(Acknowledged { value: self.sent, revision: revision(&header) });
        }
        self
    }

    /// Checks what the restarted server holds against what was acknowledged, and goes on from there: a write that was
    /// not answered may be there or not.
    async fn check(&mut self, member: &Client) -> Result<()> {
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
    async fn check_both_or_none(&self, member: &Client, first: u64) -> Result<()> {
        let expected = (first / 3 > 0).then(|| (first - first % 3).to_string());
        let second = member.range(get(self.second())).await?.kvs.pop();
        let second = second.map(|pair| String::from_utf8_lossy(&pair.value).into_owned());
        ensure!(second == expected, "first is {first}, second is {second:?}");
        Ok(())
    }
}

fn fresh_writers() -> Vec<Writer> {
    (0..WRITERS).map(|number| Writer { number, sent: 0, acknowledged: Vec::new() }).collect()
}

async fn one_cycle(member: &mut Member, writers: Vec<Writer>, load: Duration) -> Result<Vec<Writer>> {
    let run = |writer: Writer| writer.run(member.address(), CYCLE_LIMIT);
    let running: JoinSet<Writer> = writers.into_iter().map(run).collect();
    tokio::time::sleep(load).await;
    member.kill()?;
    let writers = running.join_all().await;
    member.restart().await?;
    check_all(writers, member).await
}

/// Some of three members are killed at once, while the writers on the others go on, and come back after a while.
async fn one_cycle_of_a_cluster(
    cluster: &mut Cluster,
    writers: Vec<Writer>,
    random: &mut fastrand::Rng,
) -> Result<Vec<Writer>> {
    let load = Duration::from_millis(random.u64(20..600));
    let away = Duration::from_millis(random.u64(0..900));
    let count = random.usize(1..=3);
    let mut seats = [0, 1, 2];
    random.shuffle(&mut seats);
    let run = |writer: Writer| {
        let address = cluster.seats()[writer.number as usize % 3].address();
        writer.run(address, load + away)
    };
    let running: JoinSet<Writer> = writers.into_iter().map(run).collect();
    tokio::time::sleep(load).await;
    for &seat in &seats[..count] {
        cluster.seat(seat).kill()?;
    }
    tokio::time::sleep(away).await;
    cluster.spawn_all()?;
    let writers = running.join_all().await;
    cluster.settled().await.with_context(|| format!("after {count} were killed"))?;
    cluster.equal().await?;
    check_all(writers, &cluster.client(random.usize(..3)).await?).await
}

async fn check_all(mut writers: Vec<Writer>, member: &Client) -> Result<Vec<Writer>> {
    let now = revision(&member.range(range("\0", "\0")).await?.header);
    let acknowledged = writers.iter().filter_map(|writer| writer.acknowledged.last());
    let last = acknowledged.map(|last| last.revision).max().unwrap_or(0);
    ensure!(now >= last, "the store is at {now}, but {last} was acknowledged");
    let mut given: Vec<i64> = writers.iter().flat_map(|w| w.acknowledged.iter().map(|a| a.revision)).collect();
    given.sort_unstable();
    ensure!(given.windows(2).all(|two| two[0] < two[1]), "a revision was given twice");
    for writer in &mut writers {
        writer.check(member).await.with_context(|| format!("writer {}", writer.number))?;
    }
    Ok(writers)
}

fn require_some(writers: &[Writer]) -> Result<()> {
    let written: usize = writers.iter().map(|writer| writer.acknowledged.len()).sum();
    ensure!(written > 100, "only {written} writes were acknowledged");
    Ok(())
}

async fn acknowledged_writes_survive_sigkill(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let mut writers = fresh_writers();
    let mut random = fastrand::Rng::with_seed(1);
    for cycle in 1..=chosen("E2E_KILL_CYCLES", CYCLES)? {
        let load = Duration::from_millis(random.u64(20..600));
        writers = one_cycle(&mut member, writers, load).await.with_context(|| format!("{target}, cycle {cycle}"))?;
    }
    require_some(&writers)
}

async fn acknowledged_writes_survive_sigkill_of_any_members(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let mut writers = fresh_writers();
    let mut random = fastrand::Rng::with_seed(chosen("E2E_CLUSTER_KILL_SEED", 1)?);
    for cycle in 1..=chosen("E2E_CLUSTER_KILL_CYCLES", CLUSTER_CYCLES)? {
        let done = one_cycle_of_a_cluster(&mut cluster, writers, &mut random).await;
        writers = done.with_context(|| format!("{target}, cycle {cycle}"))?;
    }
    require_some(&writers)
}

mod one {
    use super::acknowledged_writes_survive_sigkill;
    e2e::on_both_targets!(unlimited: acknowledged_writes_survive_sigkill);
}

mod three {
    use super::acknowledged_writes_survive_sigkill_of_any_members;
    e2e::on_both_targets!(unlimited: acknowledged_writes_survive_sigkill_of_any_members);
}
