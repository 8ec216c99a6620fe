//! Very many leases: when they have lapsed nothing is left of them.
//!
//! `E2E_LEASES` chooses how many; the full number is 100,000.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseLeasesRequest, PutRequest, RangeRequest};
use e2e::refusal::LEASE_NOT_FOUND;
use e2e::request::{compact, everything, lease, put};
use e2e::{Member, Target, chosen, holds_within};
use testkit::grpc::Client;
use tokio::task::JoinSet;

use crate::usage::{MEGABYTE, Peak};

/// What every run does.
const LEASES: i64 = 3000;

/// How many requests wait at once.
const OPEN_MAX: i64 = 200;

async fn grant(client: Client, ids: impl Iterator<Item = i64>) -> Result<()> {
    for id in ids {
        client.lease_grant(lease(id, 1)).await?;
        match client.put(PutRequest { lease: id, ..put(format!("k{id}"), "v") }).await {
            // A slow machine may see the lease lapse before.
            Err(status) if status.message == LEASE_NOT_FOUND.1 => (),
            put => drop(put?),
        }
    }
    Ok(())
}

/// #11495, #14019: granted and lapsed, twice over.
async fn leases_that_lapse_leave_nothing(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let id = member.process().id();
    let count = chosen("E2E_LEASES", LEASES)?;
    // etcd revokes a thousand a second at most.
    let limit = Duration::from_secs(20 + count as u64 / 200);
    let mut peak = None;
    for _ in 0..2 {
        let mut granting = JoinSet::new();
        for first in 1..=OPEN_MAX {
            granting.spawn(grant(Client::clone(&member), (first..=count).step_by(OPEN_MAX as usize)));
        }
        while let Some(granted) = granting.join_next().await {
            granted??;
        }
        holds_within(limit, async || Ok(member.lease_leases(LeaseLeasesRequest {}).await?.leases.is_empty()))
            .await
            .context("there are leases left")?;
        let keys = member.range(RangeRequest { count_only: true, ..everything() }).await?;
        ensure!(keys.count == 0, "{} keys are left", keys.count);
        let now = keys.header.context("an answer has a header")?.revision;
        member.compact(compact(now)).await?;
        peak = Some(match peak {
            None => Peak::of(id)?,
            Some(peak) => peak,
        });
    }
    let left = peak.context("there were rounds")?.left()?;
    ensure!(target == Target::Etcd || left < 16 * MEGABYTE, "{left} bytes more than after the first round");
    Ok(())
}

e2e::on_both_targets!(unlimited: leases_that_lapse_leave_nothing);
