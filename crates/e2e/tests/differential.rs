//! The same random requests to both servers.
//!
//! `E2E_DIFF_REQUESTS` and `E2E_DIFF_SEED` choose how many and which.

use anyhow::{Context, Result, ensure};
use e2e::differential::run_duel;
use e2e::{Member, Target, chosen, run_unlimited};

/// What every run does.
const REQUESTS: u64 = 100_000;

/// With the seed that is chosen, or so many after it.
async fn duel(reference: Target, candidate: Target, requests: u64, seeds_after: u64) -> Result<()> {
    let seed = chosen::<u64>("E2E_DIFF_SEED", 1)? + seeds_after;
    let mut members = [Member::start(reference).await?, Member::start(candidate).await?];
    run_duel(&mut members, seed, requests).await
}

/// Shows that a difference is seen: here one server takes fewer operations a transaction.
#[test]
fn a_difference_is_found() {
    run_unlimited(async {
        let candidate = Member::start_with(Target::Etcd, &[("max-txn-ops", "2")]).await?;
        let mut members = [Member::start(Target::Etcd).await?, candidate];
        let difference = run_duel(&mut members, 1, 2_000).await.err().context("no difference was found")?;
        ensure!(format!("{difference:?}").contains("too many operations"), "{difference:?}");
        Ok(())
    });
}

/// Shows that the test itself makes no difference.
#[test]
fn etcd_agrees_with_etcd() {
    run_unlimited(async { duel(Target::Etcd, Target::Etcd, chosen("E2E_DIFF_REQUESTS", REQUESTS / 20)?, 0).await });
}

/// One half of the requests; the other runs at the same time.
fn half(seeds_after: u64) {
    run_unlimited(async {
        let requests = chosen("E2E_DIFF_REQUESTS", REQUESTS)? / 2;
        duel(Target::Etcd, Target::Quorate, requests, seeds_after).await
    });
}

#[test]
fn quorate_agrees_with_etcd() {
    half(0);
}

#[test]
fn quorate_agrees_with_etcd_with_another_seed() {
    half(1);
}
