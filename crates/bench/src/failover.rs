//! How long writes wait when the leader goes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use api::etcdserverpb::PutRequest;
use testkit::grpc::{Client, Status};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::scenario::Turn;

/// How far apart the puts are that every surviving member gets. None waits for an answer to another.
const APART: Duration = Duration::from_millis(5);

/// How long it may take until one is acknowledged.
const LIMIT: Duration = Duration::from_secs(20);

/// What happens to the leader.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    Terminate,
}

impl Turn<'_> {
    /// SIGKILL and SIGTERM to the leader, with default timers: until a put elsewhere is acknowledged under a new one.
    pub(crate) async fn failover(&mut self) -> anyhow::Result<()> {
        for (row, end) in [
            ("three members: SIGKILL the leader, first put elsewhere", End::Kill),
            ("three members: SIGTERM the leader, first put under another", End::Terminate),
        ] {
            let mut took = Vec::new();
            let mut cluster = self.trio(&[]).await?;
            for _ in 0..self.size.failovers {
                let leader = cluster.leader(&[0, 1, 2]).await?;
                let others: Vec<SocketAddr> =
                    (0..3).filter(|&seat| seat != leader).map(|seat| cluster.members[seat].address()).collect();
                let term = term(&Client::connect(others[0]).await?).await?;
                let start = Instant::now();
                match end {
                    End::Kill => cluster.members[leader].kill()?,
                    End::Terminate => cluster.members[leader].terminate()?,
                }
                took.push(first_put(&others, term, start).await?);
                if matches!(end, End::Terminate) {
                    cluster.members[leader].ended().await?;
                }
                cluster.members[leader].restart().await?;
                // Until streams are up again and nobody is in an election of the restart.
                sleep(Duration::from_secs(1)).await;
            }
            took.sort();
            eprintln!("{}: {row}: {took:?}", self.name);
            let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
            self.note(row, "p50 ms", at(0.5));
            self.note(row, "p99 ms", at(0.99));
            self.note(row, "max ms", at(1.0));
        }
        Ok(())
    }
}

/// How long after `start` the first put is acknowledged, by one of `others`, in a term after `term`.
async fn first_put(others: &[SocketAddr], term: u64, start: Instant) -> anyhow::Result<Duration> {
    let mut clients = Vec::new();
    for &other in others {
        clients.push(Client::connect(other).await?);
    }
    let mut puts: JoinSet<Result<u64, Status>> = JoinSet::new();
    let mut ticks = interval(APART);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while start.elapsed() < LIMIT {
        tokio::select! {
            _ = ticks.tick() => {
                for client in &clients {
                    let client = client.clone();
                    puts.spawn_local(async move { term_of_put(&client).await });
                }
            }
            Some(put) = puts.join_next() => {
                if let Ok(Ok(acknowledged)) = put && acknowledged > term {
                    return Ok(start.elapsed());
                }
            }
        }
    }
    anyhow::bail!("no put is acknowledged after {LIMIT:?}")
}

async fn term(client: &Client) -> anyhow::Result<u64> {
    term_of_put(client).await.context("a put before")
}

async fn term_of_put(client: &Client) -> Result<u64, Status> {
    let answer = client.put(PutRequest { key: "failover".into(), value: "1".into(), ..Default::default() }).await?;
    Ok(answer.header.map_or(0, |header| header.raft_term))
}
