//! What is left of leases over a restart and under another leader, where members store it.
//!
//! A lease is checkpointed five minutes after it was granted or renewed. Waiting for that takes `E2E_CHECKPOINTS=1`;
//! without it the restart comes before.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, StatusRequest};
use e2e::request::{get, lease, put};
use e2e::{CALL_LIMIT, Cluster, Member, SETTLE_LIMIT, Target, Wiring, holds_within, within};
use testkit::grpc::Client;
use tokio::time::Instant;

const TTL: i64 = 3000;

/// Some time more than five minutes.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(330);

/// With which a lease's rest is stored.
const FLAGS: [(&str, &str); 2] =
    [("experimental-enable-lease-checkpoint", "true"), ("experimental-enable-lease-checkpoint-persist", "true")];

async fn left(member: &Client, id: i64) -> Result<i64> {
    Ok(member.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false }).await?.ttl)
}

/// PR 13508, PR 14253: never early, never the whole time again once part of it was stored as over.
async fn what_is_left_of_leases_survives_a_crash(target: Target) -> Result<()> {
    let mut member = Member::start_with(target, &FLAGS).await?;
    let applied = async |member: &Member| anyhow::Ok(member.status(StatusRequest {}).await?.raft_applied_index);
    for id in [1, 2] {
        member.lease_grant(lease(id, TTL)).await?;
    }
    let checkpointed = env::var_os("E2E_CHECKPOINTS").is_some();
    if checkpointed {
        // Nobody else writes.
        let before = applied(&member).await?;
        holds_within(CHECKPOINT_LIMIT, async || Ok(applied(&member).await? > before)).await?;
    }
    let mut keeping = member.lease_keep_alive().await?;
    keeping.send(&LeaseKeepAliveRequest { id: 2 })?;
    let renewed = keeping.next().await?.context("the stream goes on")?;
    ensure!(renewed.ttl == TTL, "{renewed:?}");
    for restart in 0..2 {
        member.kill()?;
        member.restart().await?;
        let (stored, whole) = (left(&member, 1).await?, left(&member, 2).await?);
        let stored_max = if checkpointed { TTL - 299 } else { TTL };
        ensure!((stored_max - 20..=stored_max).contains(&stored), "restart {restart}: {stored} seconds are left");
        ensure!((TTL - 20..=TTL).contains(&whole), "restart {restart}: {whole} seconds are left after a renewal");
    }
    Ok(())
}

/// D2 (PR 13508, PR 14253): the same under another leader, who came by request and who came by the first one's death.
async fn what_is_left_of_leases_is_known_to_the_next_leader(target: Target) -> Result<()> {
    /// A leader that takes over gives every lease the time that an election may have taken.
    const EXTENSION: i64 = 5;
    // Nobody else may lead before: a new leader begins anew to count five minutes.
    let flags = [FLAGS[0], FLAGS[1], ("heartbeat-interval", "100"), ("election-timeout", "5000")];
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let first = cluster.leader().await?;
    let client = cluster.client(first).await?;
    let applied = async || anyhow::Ok(cluster.status(first).await?.raft_applied_index);
    let granted = Instant::now();
    for id in [1, 2] {
        client.lease_grant(lease(id, TTL)).await?;
    }
    let checkpointed = env::var_os("E2E_CHECKPOINTS").is_some();
    if checkpointed {
        let before = (applied().await?, cluster.status(first).await?.raft_term);
        holds_within(CHECKPOINT_LIMIT, async || Ok(applied().await? > before.0)).await?;
        ensure!(cluster.status(first).await?.raft_term == before.1, "another leader came before");
    }
    let mut keeping = client.lease_keep_alive().await?;
    keeping.send(&LeaseKeepAliveRequest { id: 2 })?;
    let renewed = within(CALL_LIMIT, keeping.next()).await??.context("the stream goes on")?;
    ensure!(renewed.ttl == TTL, "{renewed:?}");
    let whole_since = Instant::now();
    for is_killed in [false, true] {
        let leader = cluster.leader().await?;
        if is_killed {
            cluster.seat(leader).kill()?;
        } else {
            cluster.lead((leader + 1) % 3).await?;
        }
        cluster.leader().await?;
        for seat in cluster.running() {
            let client = cluster.client(seat).await?;
            let (stored, whole) = (left(&client, 1).await?, left(&client, 2).await?);
            // Less by no more than the time that has passed, and a second that is rounded off.
            let stored_min = TTL - granted.elapsed().as_secs() as i64 - 1;
            let stored_max = EXTENSION + if checkpointed { TTL - 299 } else { TTL };
            ensure!((stored_min..=stored_max).contains(&stored), "{stored} seconds are left, at least {stored_min}");
            let whole_min = TTL - whole_since.elapsed().as_secs() as i64 - 1;
            ensure!((whole_min..=TTL + EXTENSION).contains(&whole), "{whole} seconds are left, at least {whole_min}");
        }
    }
    Ok(())
}

/// D2: a lease whose leader goes in the middle of its life ends no sooner, and does end.
async fn a_lease_whose_leader_moves_does_not_end_early(target: Target) -> Result<()> {
    const SHORT_TTL: i64 = 6;
    let cluster = Cluster::start_with(target, 3, Wiring::Direct, &FLAGS).await?;
    let client = cluster.client(cluster.follower().await?).await?;
    let granted = Instant::now();
    let id = client.lease_grant(lease(0, SHORT_TTL)).await?.id;
    client.put(PutRequest { lease: id, ..put("key", "1") }).await?;
    for moves in 1.. {
        if granted.elapsed() < Duration::from_secs(4) {
            cluster.lead(moves % 3).await?;
        }
        let count = client.range(get("key")).await?.count;
        if granted.elapsed() >= Duration::from_secs(SHORT_TTL as u64) {
            break;
        }
        ensure!(count == 1, "the lease has ended after {:?}", granted.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    holds_within(SETTLE_LIMIT, async || Ok(client.range(get("key")).await?.count == 0)).await
}

e2e::on_both_targets!(clusters: a_lease_whose_leader_moves_does_not_end_early);

mod over_checkpoints {
    use super::{what_is_left_of_leases_is_known_to_the_next_leader, what_is_left_of_leases_survives_a_crash};
    e2e::on_both_targets!(unlimited:
        what_is_left_of_leases_is_known_to_the_next_leader,
        what_is_left_of_leases_survives_a_crash,
    );
}
