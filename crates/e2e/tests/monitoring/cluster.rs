//! What members tell of one another.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::put;
use e2e::{
    CLUSTER_LIMIT, Cluster, Exposition, SETTLE_LIMIT, Target, Wiring, early_snapshots, found_within, missed_bytes,
    on_both_targets, run_unlimited,
};

/// Probes between members come every four seconds.
const LIMIT: Duration = Duration::from_secs(20);

fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// Scrapes of all members of three, after writes through each, once each has probed the others.
async fn scrapes(cluster: &Cluster) -> Result<Vec<Exposition>> {
    for seat in 0..3 {
        let client = cluster.client(seat).await?;
        for number in 0..10 {
            client.put(put(format!("key{seat}{number}"), vec![b'v'; 1000])).await?;
        }
    }
    found_within(LIMIT, async || {
        let mut scrapes = Vec::new();
        for seat in cluster.seats() {
            scrapes.push(Exposition::scrape(seat.address()).await?);
        }
        let probed = |scrape: &Exposition| {
            let trips = scrape.families.get("etcd_network_peer_round_trip_time_seconds");
            let counts = trips.into_iter().flat_map(|family| &family.samples);
            counts.filter(|((suffix, _), value)| suffix == "_count" && **value > 0.0).count() == 2
        };
        Ok(scrapes.iter().all(probed).then_some(scrapes))
    })
    .await
}

#[test]
fn all_that_etcds_members_tell_of_one_another_is_told() {
    run_unlimited(async {
        let mut told = Vec::new();
        for target in Target::BOTH {
            let cluster = Cluster::start(target, 3).await?;
            told.push(tokio::time::timeout(CLUSTER_LIMIT, scrapes(&cluster)).await??);
        }
        let [etcd, quorate] = <[_; 2]>::try_from(told).unwrap();
        for (etcd, quorate) in etcd.iter().zip(&quorate) {
            for (name, family) in etcd.families.iter().filter(|(name, _)| name.starts_with("etcd_network_")) {
                let own = quorate.families.get(name).with_context(|| name.clone())?;
                assert_eq!((&own.kind, own.edges()), (&family.kind, family.edges()), "{name}");
                assert_eq!(own.label_names(), family.label_names(), "{name}");
            }
        }
        Ok(())
    });
}

async fn members_know_one_another(target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let scrapes = scrapes(&cluster).await?;
    let mut ids = Vec::new();
    for seat in 0..3 {
        ids.push(hex(cluster.id(seat).await?));
    }
    let leader = cluster.leader().await?;
    for (seat, scrape) in scrapes.iter().enumerate() {
        let one = |name: &str| scrape.value(name, &[]);
        assert_eq!(one("etcd_server_is_leader"), Some(f64::from(u8::from(seat == leader))));
        assert_eq!(one("etcd_server_has_leader"), Some(1.0));
        assert_eq!(scrape.value("etcd_server_id", &[("server_id", &ids[seat])]), Some(1.0));
        for other in (0..3).filter(|other| *other != seat) {
            let (own, id) = (&*ids[seat], &*ids[other]);
            let both = [("Local", own), ("Remote", id)];
            assert_eq!(scrape.value("etcd_network_active_peers", &both), Some(1.0), "{seat} {other}");
            if seat == leader || other == leader {
                let sent = scrape.value("etcd_network_peer_sent_bytes_total", &[("To", id)]);
                ensure!(sent.is_some_and(|bytes| bytes > 0.0), "{seat} {other}: {sent:?}");
                let received = scrape.value("etcd_network_peer_received_bytes_total", &[("From", id)]);
                ensure!(received.is_some_and(|bytes| bytes > 0.0), "{seat} {other}: {received:?}");
            }
            if target == Target::Quorate {
                // From 3.6 on.
                assert_eq!(scrape.value("etcd_network_known_peers", &both), Some(1.0));
            }
        }
    }
    Ok(())
}

async fn a_member_that_is_gone_is_told_to_be_out_of_touch(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let away = cluster.follower().await?;
    let leader = cluster.leader().await?;
    let (own, gone) = (hex(cluster.id(leader).await?), hex(cluster.id(away).await?));
    cluster.seat(away).kill()?;
    let client = cluster.client(leader).await?;
    let address = cluster.seats()[leader].address();
    found_within(LIMIT, async || {
        client.put(put("key", "value")).await?;
        let scrape = Exposition::scrape(address).await?;
        let both = [("Local", &*own), ("Remote", &*gone)];
        let is_active = scrape.value("etcd_network_active_peers", &both) == Some(1.0);
        let is_lost = scrape.value("etcd_network_disconnected_peers_total", &both).is_some_and(|times| times >= 1.0);
        Ok((!is_active && is_lost).then_some(()))
    })
    .await
}

async fn snapshots_between_members_are_counted(target: Target) -> Result<()> {
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &early_snapshots(target)).await?;
    let away = cluster.follower().await?;
    let leader = cluster.leader().await?;
    let (sender, receiver) = (hex(cluster.id(leader).await?), hex(cluster.id(away).await?));
    cluster.seat(away).kill()?;
    let client = cluster.client(leader).await?;
    let value = vec![b'v'; missed_bytes(target) / 350];
    for _ in 0..400 {
        client.put(put("key", &value)).await?;
    }
    cluster.restart(away).await?;
    cluster.equal().await?;
    let addresses = [leader, away].map(|seat| cluster.seats()[seat].address());
    found_within(SETTLE_LIMIT, async || {
        let (of_sender, of_receiver) =
            (Exposition::scrape(addresses[0]).await?, Exposition::scrape(addresses[1]).await?);
        let (to, from) = ([("To", &*receiver)], [("From", &*sender)]);
        let sent = of_sender.value("etcd_network_snapshot_send_success", &to);
        let received = of_receiver.value("etcd_network_snapshot_receive_success", &from);
        if sent.is_none_or(|times| times < 1.0) || received.is_none_or(|times| times < 1.0) {
            return Ok(None);
        }
        let took = of_sender.value("etcd_network_snapshot_send_total_duration_seconds_count", &to);
        ensure!(took >= Some(1.0), "{took:?}");
        let took = of_receiver.value("etcd_network_snapshot_receive_total_duration_seconds_count", &from);
        ensure!(took >= Some(1.0), "{took:?}");
        assert_eq!(of_sender.value("etcd_network_snapshot_send_inflights_total", &to), Some(0.0));
        assert_eq!(of_receiver.value("etcd_network_snapshot_receive_inflights_total", &from), Some(0.0));
        let saved = of_receiver.value("etcd_snap_db_save_total_duration_seconds_count", &[]);
        ensure!(saved >= Some(1.0), "{saved:?}");
        let exported = of_sender.value("etcd_disk_backend_snapshot_duration_seconds_count", &[]);
        ensure!(exported >= Some(1.0), "{exported:?}");
        let kinds: BTreeSet<&str> = ["etcd_network_snapshot_send_success", "etcd_network_snapshot_send_failures"]
            .into_iter()
            .filter_map(|name| Some(&*of_sender.families.get(name)?.kind))
            .collect();
        assert_eq!(kinds, BTreeSet::from(["counter"]));
        Ok(Some(()))
    })
    .await
}

/// The first decision on the cluster's version does not wait for members that are down, and takes the oldest there was; the
/// next follows once all have said theirs.
async fn versions_that_the_cluster_had_before_stay_at_zero(target: Target) -> Result<()> {
    async fn all_tell(cluster: &Cluster, seats: usize, expected: [Option<f64>; 2]) -> Result<Option<()>> {
        for seat in &cluster.seats()[..seats] {
            let Ok(scrape) = Exposition::scrape(seat.address()).await else { return Ok(None) };
            let of = |version| scrape.value("etcd_cluster_version", &[("cluster_version", version)]);
            if [of("3.0"), of("3.5")] != expected {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
    let mut cluster = Cluster::prepare(target, 3, Wiring::Direct, &[])?;
    cluster.spawn(0)?;
    cluster.spawn(1)?;
    found_within(LIMIT, async || all_tell(&cluster, 2, [Some(1.0), None]).await).await?;
    cluster.spawn(2)?;
    found_within(LIMIT, async || all_tell(&cluster, 3, [Some(0.0), Some(1.0)]).await).await
}

on_both_targets!(clusters: members_know_one_another, versions_that_the_cluster_had_before_stay_at_zero, a_member_that_is_gone_is_told_to_be_out_of_touch, snapshots_between_members_are_counted);
