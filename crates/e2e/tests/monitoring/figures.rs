//! `/metrics` of Quorate against that of etcd, after the same requests.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseRevokeRequest, PutRequest, TxnRequest};
use e2e::request::{
    compact, created_at, delete, delete_range, get, lease, op_get, op_put, put, txn, value_is, watch, watch_cancel,
    watch_progress,
};
use e2e::{Exposition, Member, Target, Watch, found_within, http, on_both_targets, run_unlimited};

/// What etcd tells and Quorate does not: of Go, and of the version 2 store, by which etcd keeps its members.
fn is_left_out(name: &str) -> bool {
    name.starts_with("go_") || matches!(name, "etcd_debugging_store_reads_total" | "etcd_debugging_store_writes_total")
}

/// How long what is counted on the side may take to be seen.
const LIMIT: Duration = Duration::from_secs(10);

/// Requests of every kind that metrics tell apart. The watch that is returned has got its event.
async fn traffic(member: &Member) -> Result<Watch> {
    for number in 0..5 {
        member.put(put(format!("key{number}"), "value")).await?;
    }
    member.put(PutRequest { prev_kv: true, ..put("key0", "value") }).await?;
    member.put(put("", "no key")).await.unwrap_err();
    member.range(get("key0")).await?;
    member.range(get("nothing")).await?;
    member.delete_range(delete("key1")).await?;
    member.delete_range(delete_range("key2", "key4")).await?;
    member.txn(TxnRequest { compare: vec![value_is("key0", "value")], ..txn([op_put("a", "1")]) }).await?;
    member.txn(TxnRequest { compare: vec![created_at("a", 0)], ..txn([op_put("b", "1"), op_put("c", "1")]) }).await?;
    member.txn(txn([op_put("b", "1"), op_put("c", "1"), op_get("a")])).await?;
    member.txn(txn([op_get("a"), op_get("b")])).await?;
    member.lease_grant(lease(7, 100)).await?;
    member.lease_grant(lease(8, 3000)).await?;
    member.lease_grant(lease(7, 100)).await.unwrap_err();
    member.put(PutRequest { lease: 7, ..put("leased", "value") }).await?;
    member.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
    let mut gone = Watch::start(member, watch("key0")).await?;
    let mut kept = Watch::start(member, watch("key4")).await?;
    member.put(put("key0", "x")).await?;
    member.put(put("key4", "x")).await?;
    gone.events(1).await?;
    kept.events(1).await?;
    drop(gone);
    for path in ["/health", "/readyz", "/livez", "/readyz/linearizable_read"] {
        ensure!(http::get(member.address(), path).await?.status == 200, "{path}");
    }
    Ok(kept)
}

/// A scrape once the watch that is gone is known to be.
async fn settled(member: &Member) -> Result<Exposition> {
    let labels = [
        ("grpc_code", "Canceled"),
        ("grpc_method", "Watch"),
        ("grpc_service", "etcdserverpb.Watch"),
        ("grpc_type", "bidi_stream"),
    ];
    found_within(LIMIT, async || {
        let scrape = Exposition::scrape(member.address()).await?;
        Ok((scrape.value("grpc_server_handled_total", &labels) == Some(1.0)).then_some(scrape))
    })
    .await
}

#[test]
fn all_that_etcd_tells_is_told_with_its_type_labels_and_buckets() {
    run_unlimited(async {
        let mut scrapes = Vec::new();
        for target in Target::BOTH {
            let member = Member::start_with(target, &[("metrics", "extensive")]).await?;
            let fresh = Exposition::scrape(member.address()).await?;
            let _kept = traffic(&member).await?;
            member.compact(compact(5)).await?;
            scrapes.push((fresh, settled(&member).await?));
        }
        let [(etcd_fresh, etcd), (fresh, quorate)] = <[_; 2]>::try_from(scrapes).unwrap();
        for (etcd, quorate) in [(etcd_fresh, fresh), (etcd, quorate)] {
            let expected: BTreeSet<_> = etcd.families.keys().filter(|name| !is_left_out(name)).collect();
            let missing: Vec<_> = expected.iter().filter(|name| !quorate.families.contains_key(**name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
            for name in expected {
                let (etcd, quorate) = (&etcd.families[name], &quorate.families[name]);
                assert_eq!(quorate.kind, etcd.kind, "{name}");
                assert_eq!(quorate.label_names(), etcd.label_names(), "{name}");
                assert_eq!(quorate.edges(), etcd.edges(), "{name}");
            }
        }
        Ok(())
    });
}

#[test]
fn grpc_methods_are_told_from_the_start_with_every_code() {
    run_unlimited(async {
        let mut told = Vec::new();
        for target in Target::BOTH {
            let member = Member::start(target).await?;
            let scrape = Exposition::scrape(member.address()).await?;
            let handled = &scrape.families["grpc_server_handled_total"];
            let started = &scrape.families["grpc_server_started_total"];
            assert_eq!(handled.samples.len(), 17 * started.samples.len());
            ensure!(!scrape.families.contains_key("grpc_server_handling_seconds"), "only where it is asked for");
            told.push(handled.samples.keys().cloned().collect::<BTreeSet<_>>());
        }
        let [etcd, quorate] = <[_; 2]>::try_from(told).unwrap();
        let missing: Vec<_> = etcd.difference(&quorate).collect();
        assert!(missing.is_empty(), "{missing:?}");
        // etcd tells of these once they were called; the one is of 3.7.
        let is_late = |labels: &e2e::Labels| {
            let service = &*labels["grpc_service"];
            matches!(service, "v3lockpb.Lock" | "v3electionpb.Election") || labels["grpc_method"] == "RangeStream"
        };
        let unknown: Vec<_> = quorate.difference(&etcd).filter(|(_, labels)| !is_late(labels)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        Ok(())
    });
}

#[test]
fn what_can_be_counted_is_counted_as_etcd_counts() {
    const EXACT: [&str; 42] = [
        "etcd_cluster_version",
        "etcd_debugging_auth_revision",
        "etcd_debugging_lease_granted_total",
        "etcd_debugging_lease_renewed_total",
        "etcd_debugging_lease_revoked_total",
        "etcd_debugging_lease_ttl_total",
        "etcd_debugging_mvcc_compact_revision",
        "etcd_debugging_mvcc_current_revision",
        "etcd_debugging_mvcc_events_total",
        "etcd_debugging_mvcc_keys_total",
        "etcd_debugging_mvcc_pending_events_total",
        "etcd_debugging_mvcc_range_total",
        "etcd_debugging_mvcc_slow_watcher_total",
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "etcd_debugging_mvcc_watch_stream_total",
        "etcd_debugging_mvcc_watcher_total",
        "etcd_debugging_server_lease_expired_total",
        "etcd_disk_defrag_inflight",
        "etcd_mvcc_delete_total",
        "etcd_mvcc_put_total",
        "etcd_mvcc_range_total",
        "etcd_mvcc_txn_total",
        "etcd_server_client_requests_total",
        "etcd_server_has_leader",
        "etcd_server_health_failures",
        "etcd_server_health_success",
        "etcd_server_healthcheck",
        "etcd_server_healthchecks_total",
        "etcd_server_is_leader",
        "etcd_server_is_learner",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_learner_promote_successes",
        "etcd_server_proposals_failed_total",
        "etcd_server_proposals_pending",
        "etcd_server_quota_backend_bytes",
        "etcd_server_read_indexes_failed_total",
        "etcd_server_snapshot_apply_in_progress_total",
        "etcd_server_version",
        "grpc_server_handled_total",
        "grpc_server_msg_received_total",
        "grpc_server_msg_sent_total",
        "grpc_server_started_total",
    ];
    run_unlimited(async {
        let mut scrapes = Vec::new();
        for target in Target::BOTH {
            let member = Member::start(target).await?;
            let _kept = traffic(&member).await?;
            scrapes.push(settled(&member).await?);
        }
        let [etcd, quorate] = <[_; 2]>::try_from(scrapes).unwrap();
        for name in EXACT {
            let used = |scrape: &Exposition| {
                let samples = scrape.families[name].samples.iter().filter(|(_, value)| **value != 0.0);
                samples.map(|(key, value)| (key.clone(), *value)).collect::<Vec<_>>()
            };
            assert_eq!(used(&quorate), used(&etcd), "{name}");
        }
        // Every apply is measured, whatever it is applied together with. How members are kept differs.
        for operation in ["Put", "DeleteRange", "Txn", "LeaseGrant", "LeaseRevoke"] {
            for success in ["true", "false"] {
                let labels = [("version", "v3"), ("op", operation), ("success", success)];
                let count = |scrape: &Exposition| scrape.value("etcd_server_apply_duration_seconds_count", &labels);
                assert_eq!(count(&quorate), count(&etcd), "{operation} {success}");
            }
        }
        Ok(())
    });
}

async fn compaction_is_told(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..10 {
        member.put(put("key", number.to_string())).await?;
    }
    member.compact(compact(8)).await?;
    let scrape = found_within(LIMIT, async || {
        let scrape = Exposition::scrape(member.address()).await?;
        let ended = scrape.value("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count", &[]);
        Ok((ended == Some(1.0)).then_some(scrape))
    })
    .await?;
    assert_eq!(scrape.value("etcd_debugging_mvcc_compact_revision", &[]), Some(8.0));
    // Of the versions at 2 to 8 the last one is kept.
    assert_eq!(scrape.value("etcd_debugging_mvcc_db_compaction_keys_total", &[]), Some(6.0));
    let last = scrape.value("etcd_debugging_mvcc_db_compaction_last", &[]).context("when it ended")?;
    ensure!(last > 1.7e9, "{last}");
    Ok(())
}

async fn disks_are_measured(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..100 {
        member.put(put(format!("key{number}"), vec![0; 1000])).await?;
    }
    member.defragment(api::etcdserverpb::DefragmentRequest {}).await?;
    member.hash(api::etcdserverpb::HashRequest {}).await?;
    member.hash_kv(api::etcdserverpb::HashKvRequest::default()).await?;
    let scrape = found_within(LIMIT, async || {
        let scrape = Exposition::scrape(member.address()).await?;
        let commits = scrape.value("etcd_disk_backend_commit_duration_seconds_count", &[]);
        Ok(commits.is_some_and(|commits| commits > 0.0).then_some(scrape))
    })
    .await?;
    let value = |name: &str| scrape.value(name, &[]).with_context(|| name.to_owned());
    ensure!(value("etcd_disk_wal_fsync_duration_seconds_count")? >= 100.0, "every put waits for one");
    ensure!(value("etcd_disk_wal_write_bytes_total")? >= 100.0 * 1000.0);
    for once in ["etcd_disk_backend_defrag_duration_seconds_count", "etcd_mvcc_hash_duration_seconds_count"] {
        assert_eq!(value(once)?, 1.0, "{once}");
    }
    assert_eq!(value("etcd_mvcc_hash_rev_duration_seconds_count")?, 1.0);
    let (size, used) = (value("etcd_mvcc_db_total_size_in_bytes")?, value("etcd_mvcc_db_total_size_in_use_in_bytes")?);
    ensure!(size >= used && used >= 100.0 * 1000.0, "{size} {used}");
    let status = member.status(api::etcdserverpb::StatusRequest::default()).await?;
    assert_eq!(size, status.db_size as f64);
    Ok(())
}

async fn alarms_and_failures_are_told(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let raise = api::etcdserverpb::AlarmRequest {
        action: api::etcdserverpb::alarm_request::AlarmAction::Activate.into(),
        member_id: 1,
        alarm: api::etcdserverpb::AlarmType::Corrupt.into(),
    };
    member.alarm(raise).await?;
    assert_eq!(http::get(member.address(), "/health").await?.status, 503);
    assert_eq!(http::get(member.address(), "/readyz").await?.status, 503);
    member.put(put("key", "value")).await.unwrap_err();
    let scrape = Exposition::scrape(member.address()).await?;
    assert_eq!(scrape.value("etcd_server_health_failures", &[]), Some(1.0));
    let check = [("type", "readyz"), ("name", "data_corruption")];
    assert_eq!(scrape.value("etcd_server_healthcheck", &check), Some(0.0));
    let failed = [check[0], check[1], ("status", "error")];
    assert_eq!(scrape.value("etcd_server_healthchecks_total", &failed), Some(1.0));
    if target == Target::Quorate {
        // From 3.6 on.
        let alarm = [("server_id", "1"), ("alarm_type", "CORRUPT")];
        assert_eq!(scrape.value("etcd_debugging_server_alarms", &alarm), Some(1.0));
    }
    Ok(())
}

on_both_targets!(compaction_is_told, disks_are_measured, alarms_and_failures_are_told);

/// Of 3.7: etcd 3.5 has none of them.
#[test]
fn messages_to_watchers_are_measured_if_that_is_asked_for() {
    run_unlimited(async {
        for (metrics, times) in [("basic", [0.0; 3]), ("extensive", [2.0, 1.0, 2.0])] {
            let member = Member::start_with(Target::Quorate, &[("metrics", metrics)]).await?;
            let mut watch = Watch::start(&member, watch("key")).await?;
            for _ in 0..2 {
                member.put(put("key", "value")).await?;
                watch.events(1).await?;
            }
            watch.send(&watch_progress())?;
            watch.next().await?;
            watch.send(&watch_cancel(0))?;
            watch.next().await?;
            let scrape = Exposition::scrape(member.address()).await?;
            let count = |what: &str| {
                let name = format!("etcd_debugging_server_watch_send_loop_{what}_seconds_count");
                scrape.value(&name, &[]).context(name)
            };
            let told =
                [count("control_stream_duration")?, count("progress_duration")?, count("watch_stream_duration")?];
            assert_eq!(told, times, "{metrics}");
            assert_eq!(count("watch_stream_duration_per_event")?, times[2], "{metrics}");
        }
        Ok(())
    });
}

/// The alert that people have says "95 % of the quota" by this size: a file that has just grown ahead of need is no reason for it.
#[test]
fn a_databases_size_follows_what_was_written() {
    run_unlimited(async {
        let member = Member::start(Target::Quorate).await?;
        for number in 0..70 {
            member.put(put(format!("key{number}"), vec![b'v'; 1 << 20])).await?;
            if number % 10 == 9 {
                let scrape = found_within(LIMIT, async || {
                    let scrape = Exposition::scrape(member.address()).await?;
                    let size = scrape.value("etcd_mvcc_db_total_size_in_bytes", &[]).context("the size")?;
                    Ok((size >= f64::from(number << 20)).then_some(scrape))
                })
                .await?;
                let size = scrape.value("etcd_mvcc_db_total_size_in_bytes", &[]).context("the size")?;
                let used = scrape.value("etcd_mvcc_db_total_size_in_use_in_bytes", &[]).context("what is in use")?;
                ensure!(size < 1.5 * used + f64::from(16 << 20), "after {number} MiB: {size} of which {used} are used");
            }
        }
        Ok(())
    });
}
