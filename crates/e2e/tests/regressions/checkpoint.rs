//! What is left of leases over a restart, where members store it.
//!
//! A lease is checkpointed five minutes after it was granted or renewed. Waiting for that takes `E2E_CHECKPOINTS=1`;
//! without it the restart comes before.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseTimeToLiveRequest, StatusRequest};
use e2e::request::lease;
use e2e::{Member, Target, holds_within};

const TTL: i64 = 3000;

/// Some time more than five minutes.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(330);

async fn left(member: &Member, id: i64) -> Result<i64> {
    Ok(member.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false }).await?.ttl)
}

/// PR 13508, PR 14253: never early, never the whole time again once part of it was stored as over.
async fn what_is_left_of_leases_survives_a_crash(target: Target) -> Result<()> {
    let flags =
        [("experimental-enable-lease-checkpoint", "true"), ("experimental-enable-lease-checkpoint-persist", "true")];
    let mut member = Member::start_with(target, &flags).await?;
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

e2e::on_both_targets!(unlimited: what_is_left_of_leases_survives_a_crash);
