//! Members whose disks lose what was not synced. These tests mount file systems, so they need root.
//!
//! `E2E_POWER_CUTS` chooses how often; a release wants 100.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{RangeRequest, TxnRequest};
use e2e::request::{CompareResult, CompareTarget, TargetUnion, compare, get, op_put, put, range, txn};
use e2e::{
    CALL_LIMIT, Cluster, FragileDisk, SETTLE_LIMIT, Target, Wiring, chosen, early_snapshots, found_within,
    missed_bytes, revision, within,
};
use testkit::grpc::Client;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What every run does.
const CUTS: u64 = 3;

/// Files in which etcd keeps its log take 64 MB each.
const DISK_MEGABYTES: u64 = 1024;

/// Gives every member that has not started yet a disk of its own.
fn on_fragile_disks(cluster: &mut Cluster) -> Result<Vec<FragileDisk>> {
    let mut disks = Vec::new();
    for seat in 0..cluster.seats().len() {
        let disk = FragileDisk::mount(cluster.seats()[seat].dir(), DISK_MEGABYTES)?;
        cluster.seat(seat).set_flags(&[("data-dir", &disk.path("data").display().to_string())]);
        disks.push(disk);
    }
    Ok(disks)
}

/// Cuts the power of these members, all at one moment as near as can be, and gives it back.
fn cut_power(cluster: &mut Cluster, disks: &[FragileDisk], seats: &[usize]) -> Result<()> {
    for &seat in seats {
        disks[seat].cut_power()?;
    }
    for &seat in seats {
        cluster.seat(seat).kill()?;
    }
    for &seat in seats {
        disks[seat].restore_power()?;
    }
    Ok(())
}

/// Appends numbers to a key until that fails. Returns the key, and what it was at which revision, as far as that was acknowledged.
async fn append(client: Client, key: String, number: usize) -> (String, BTreeMap<i64, String>) {
    let mut acknowledged = BTreeMap::new();
    for count in 0.. {
        let Ok(Ok(read)) = within(CALL_LIMIT, client.range(get(&key))).await else { break };
        let (value, at) = match read.kvs.first() {
            Some(pair) => (String::from_utf8_lossy(&pair.value).into_owned(), pair.mod_revision),
            None => (String::new(), 0),
        };
        let value = format!("{value}{number}.{count} ");
        let unchanged = compare(&key, CompareResult::Equal, CompareTarget::Mod, Some(TargetUnion::ModRevision(at)));
        let request = TxnRequest { compare: vec![unchanged], ..txn([op_put(&key, &value)]) };
        match within(CALL_LIMIT, client.txn(request)).await {
            Ok(Ok(answer)) if answer.succeeded => drop(acknowledged.insert(revision(&answer.header), value)),
            Ok(Ok(_)) => {}
            _ => break,
        }
    }
    (key, acknowledged)
}

/// A13 (#14143, #14140): five members lose their power at one moment, under transactions that append.
async fn no_transaction_is_lost_when_all_lose_their_power(target: Target) -> Result<()> {
    const MEMBERS: usize = 5;
    let mut cluster = Cluster::prepare(target, MEMBERS, Wiring::Direct, &[])?;
    let disks = on_fragile_disks(&mut cluster)?;
    cluster.spawn_all()?;
    cluster.settled().await?;
    let mut random = fastrand::Rng::with_seed(13);
    let mut last = BTreeMap::new();
    for round in 0..chosen("E2E_POWER_CUTS", CUTS)? {
        let mut running = JoinSet::new();
        for number in 0..MEMBERS {
            // Each key has two who compete for it.
            let key = format!("list{round}.{}", number / 2);
            running.spawn(append(cluster.client(number).await?, key, number));
        }
        sleep(Duration::from_millis(random.u64(200..1500))).await;
        cut_power(&mut cluster, &disks, &[0, 1, 2, 3, 4])?;
        let acknowledged: Vec<_> = running.join_all().await;
        cluster.spawn_all()?;
        cluster.settled().await.with_context(|| format!("round {round}"))?;
        cluster.equal().await.with_context(|| format!("round {round}"))?;
        let client = cluster.client(random.usize(..MEMBERS)).await?;
        let count: usize = acknowledged.iter().map(|(_, told)| told.len()).sum();
        ensure!(count > 10, "hardly anything was acknowledged");
        for (key, told) in acknowledged {
            // The last ones are those in danger.
            for (&at, value) in told.iter().rev().take(30) {
                let then = client.range(RangeRequest { revision: at, ..get(&key) }).await?.kvs.pop();
                let then = then.with_context(|| format!("round {round}: {key} at {at} is gone"))?;
                ensure!(then.value == *value && then.mod_revision == at, "round {round}: {key} at {at} is {then:?}");
            }
            if let Some((_, value)) = told.last_key_value() {
                let now = client.range(get(&key)).await?.kvs.remove(0).value;
                ensure!(now.starts_with(value.as_bytes()), "round {round}: {key} is {now:?} after {value}");
                last.insert(key, now);
            }
        }
    }
    let client = cluster.client(0).await?;
    for (key, value) in last {
        assert_eq!(client.range(get(&key)).await?.kvs[0].value, value, "{key}");
    }
    Ok(())
}

/// A14 (#6368): a follower loses its power while a snapshot comes in, and when it has just come in. For Quorate only: on etcd
/// 3.5.30 the member comes back at another revision than the others, and stays there.
async fn a_member_starts_after_a_power_cut_around_a_snapshot(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 3, Wiring::Direct, &early_snapshots(target))?;
    let disks = on_fragile_disks(&mut cluster)?;
    cluster.spawn_all()?;
    cluster.settled().await?;
    let value = vec![b'v'; missed_bytes(target) / 350];
    let mut random = fastrand::Rng::with_seed(14);
    let mut installed_before_cuts = 0;
    for round in 0..chosen("E2E_POWER_CUTS", CUTS)? {
        let away = cluster.follower().await?;
        cluster.seat(away).kill()?;
        let client = cluster.client(cluster.leader().await?).await?;
        for number in 0..400 {
            client.put(put(format!("key{}", number % 50), &value)).await?;
        }
        let before = cluster.seats()[away].snapshots_installed();
        cluster.spawn(away)?;
        if round % 3 == 2 {
            sleep(Duration::from_millis(random.u64(0..600))).await;
        } else {
            found_within(SETTLE_LIMIT, async || {
                Ok((cluster.seats()[away].snapshots_installed() > before).then_some(()))
            })
            .await
            .context("no snapshot was installed")?;
            sleep(Duration::from_millis(random.u64(0..30))).await;
        }
        installed_before_cuts += cluster.seats()[away].snapshots_installed() - before;
        cut_power(&mut cluster, &disks, &[away])?;
        cluster.restart(away).await.with_context(|| format!("round {round}"))?;
        cluster.settled().await?;
        cluster.equal().await.with_context(|| format!("round {round}"))?;
    }
    ensure!(installed_before_cuts > 0, "no snapshot was installed before a cut");
    Ok(())
}

/// A14 (#22401): the power goes when the log has just gone on to another file.
async fn what_was_acknowledged_survives_a_power_cut_at_a_new_file_of_the_log(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 1, Wiring::Direct, &early_snapshots(target))?;
    let disks = on_fragile_disks(&mut cluster)?;
    cluster.restart(0).await?;
    let (log, size) = match target {
        Target::Etcd => ("data/member/wal", 1_000_000),
        Target::Quorate => ("data/wal", 20_000),
    };
    let files = || -> Result<BTreeSet<_>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(disks[0].path(log))? {
            names.insert(entry?.file_name());
        }
        Ok(names.into_iter().filter(|name| name.as_encoded_bytes().ends_with(b".wal")).collect())
    };
    let mut written = 0;
    for round in 0..chosen("E2E_POWER_CUTS", CUTS)? {
        let before = files()?;
        let client = cluster.client(0).await?;
        let writing = tokio::spawn(async move {
            let mut acknowledged = written;
            while let Ok(Ok(_)) =
                within(CALL_LIMIT, client.put(put(format!("key{:06}", acknowledged % 100), vec![b'v'; size]))).await
            {
                acknowledged += 1;
            }
            acknowledged
        });
        let begun = || anyhow::Ok(files()?.difference(&before).count() > 0);
        let deadline = tokio::time::Instant::now() + SETTLE_LIMIT;
        while !begun()? {
            ensure!(tokio::time::Instant::now() < deadline, "the log does not go on to another file");
            sleep(Duration::from_millis(1)).await;
        }
        cut_power(&mut cluster, &disks, &[0])?;
        let acknowledged = writing.await?;
        let client = cluster.restart(0).await.with_context(|| format!("round {round}"))?;
        let read = client.range(RangeRequest { keys_only: true, ..range("key", "kez") }).await?;
        let versions: i64 = read.kvs.iter().map(|pair| pair.version).sum();
        ensure!(
            (acknowledged..=acknowledged + 1).contains(&versions),
            "round {round}: {acknowledged} were acknowledged, and {versions} are there"
        );
        written = versions;
    }
    Ok(())
}

#[test]
fn quorate_starts_after_a_power_cut_around_a_snapshot() {
    e2e::run_unlimited(a_member_starts_after_a_power_cut_around_a_snapshot(Target::Quorate));
}

e2e::on_both_targets!(unlimited:
    no_transaction_is_lost_when_all_lose_their_power,
    what_was_acknowledged_survives_a_power_cut_at_a_new_file_of_the_log,
);
