//! What a scrape is told of the member.

use machine::Alarm;
use metrics::{Counter, Exposition, Family, Histogram, Reading, names};

use crate::figures::WorkerFigures;
use crate::handle::Handle;
use crate::member::Inner;

/// The language that the server is written in, and its version, where etcd has Go and its.
const BUILT_BY: &str = concat!("rust", env!("QUORATE_RUST_VERSION"));

impl Handle {
    /// What is to be told of the member, to be written on a thread that may wait for a lock.
    pub fn scrape(&self) -> impl FnOnce(&mut Exposition) + Send + 'static {
        let member = self.member();
        move |out| collect(&member, out)
    }
}

fn collect(member: &Inner, out: &mut Exposition) {
    identity(member, out);
    consensus(member, out);
    requests(member, out);
    store(member, out);
    disk(member, out);
    leases(member, out);
    peers(member, out);
    for family in names::NOTHING {
        match family.kind {
            metrics::Kind::Histogram(buckets) => out.histogram(family, &[], &Reading::empty(buckets)),
            _ => out.value(family, 0.0),
        }
    }
}

fn counter(out: &mut Exposition, family: &Family, counter: &Counter) {
    out.value(family, counter.get() as f64);
}

fn histogram(out: &mut Exposition, family: &Family, histogram: &Histogram) {
    out.histogram(family, &[], &histogram.read());
}

fn truth(out: &mut Exposition, family: &Family, is_so: bool) {
    out.value(family, f64::from(u8::from(is_so)));
}

fn success(succeeded: bool) -> &'static str {
    if succeeded { "true" } else { "false" }
}

/// Who this member is, and what it is like.
fn identity(member: &Inner, out: &mut Exposition) {
    out.labelled(&names::SERVER_ID, &[("server_id", &member.identity.member_id.to_string())], 1.0);
    out.labelled(&names::SERVER_VERSION, &[("server_version", member.identity.version)], 1.0);
    out.labelled(&names::BUILD_LANGUAGE, &[("server_go_version", BUILT_BY)], 1.0);
    let current = member.shared.membership().version();
    let mut versions = member.board.figures.versions_before();
    versions.extend(current);
    for version in versions {
        let is_current = f64::from(u8::from(Some(version) == current));
        let version = format!("{}.{}", version.major, version.minor);
        out.labelled(&names::CLUSTER_VERSION, &[("cluster_version", &version)], is_current);
    }
    for gate in &member.settings.feature_gates {
        let labels = [("name", gate.name), ("stage", gate.stage)];
        out.labelled(&names::FEATURE_ENABLED, &labels, f64::from(u8::from(gate.enabled)));
    }
    out.value(&names::QUOTA, member.settings.quota_bytes.map_or(-1.0, |bytes| bytes as f64));
    for (raised_by, alarm) in member.shared.alarms().iter() {
        let alarm = match alarm {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
        };
        out.labelled(&names::ALARMS, &[("server_id", &raised_by.to_string()), ("alarm_type", alarm)], 1.0);
    }
    // Without users and roles.
    out.value(&names::AUTH_REVISION, 1.0);
}

fn consensus(member: &Inner, out: &mut Exposition) {
    let (board, figures) = (&member.board, &member.board.figures);
    truth(out, &names::HAS_LEADER, board.leader().is_some());
    truth(out, &names::IS_LEADER, board.is_leader());
    truth(out, &names::IS_LEARNER, board.is_learner());
    // In this order: what is applied is committed.
    out.value(&names::APPLIED, board.applied().0 as f64);
    out.value(&names::COMMITTED, board.commit().0 as f64);
    out.value(&names::PROPOSALS_PENDING, member.waiters.lock().len() as f64);
    counter(out, &names::LEADER_CHANGES, &figures.leader_changes);
    counter(out, &names::HEARTBEATS_LATE, &figures.heartbeats_late);
    counter(out, &names::SLOW_READ_INDEXES, &figures.slow_read_indexes);
    counter(out, &names::READ_INDEXES_FAILED, &figures.read_indexes_failed);
    counter(out, &names::PROPOSALS_FAILED, &figures.proposals_failed);
    counter(out, &names::PROMOTE_SUCCESSES, &figures.promoted);
    for (reason, count) in figures.promotions_failed() {
        out.labelled(&names::PROMOTE_FAILURES, &[("Reason", &reason)], count as f64);
    }
    counter(out, &names::SNAPSHOT_APPLY, &figures.installing);
}

fn requests(member: &Inner, out: &mut Exposition) {
    let figures = &member.board.figures;
    for (operation, succeeded, histogram) in figures.apply() {
        let reading = histogram.read();
        if !reading.is_empty() {
            let labels = [("version", "v3"), ("op", operation.name()), ("success", success(succeeded))];
            out.histogram(&names::APPLY, &labels, &reading);
        }
    }
    counter(out, &names::SLOW_APPLIES, &figures.slow_applies);
    let workers = figures.workers();
    for (what, succeeded) in WorkerFigures::kinds() {
        let mut reading = Reading::empty(names::REQUEST_DURATION.buckets());
        workers.iter().for_each(|worker| reading.add(worker.request(what, succeeded)));
        if !reading.is_empty() {
            let labels = [("type", what.name()), ("success", success(succeeded))];
            out.histogram(&names::REQUEST_DURATION, &labels, &reading);
        }
    }
    for succeeded in [false, true] {
        let mut reading = Reading::empty(names::RANGE_DURATION.buckets());
        workers.iter().for_each(|worker| reading.add(worker.range(succeeded)));
        if !reading.is_empty() {
            out.histogram(&names::RANGE_DURATION, &[("success", success(succeeded))], &reading);
        }
    }
    let sum = |applied: &Counter, of_worker: fn(&WorkerFigures) -> &Counter| {
        (applied.get() + workers.iter().map(|worker| of_worker(worker).get()).sum::<u64>()) as f64
    };
    let ranges = sum(&figures.ranges, |worker| &worker.ranges);
    out.value(&names::RANGES, ranges);
    out.value(&names::RANGES_OLD, ranges);
    out.value(&names::TXNS, sum(&figures.txns, |worker| &worker.txns));
    counter(out, &names::PUTS, &figures.puts);
    counter(out, &names::DELETES, &figures.deletes);
    counter(out, &names::PUT_BYTES, &figures.put_bytes);
}

/// The keys, and their history.
fn store(member: &Inner, out: &mut Exposition) {
    let (view, figures) = (member.shared.view(), &member.board.figures);
    out.value(&names::CURRENT_REVISION, view.revision() as f64);
    out.value(&names::COMPACT_REVISION, view.compacted() as f64);
    out.value(&names::KEYS, view.key_count() as f64);
    counter(out, &names::COMPACTION_KEYS, &figures.compacted_rows);
    counter(out, &names::COMPACTION_LAST, &figures.compacted_at);
    histogram(out, &names::COMPACTION_PAUSE, &figures.compaction_step);
    histogram(out, &names::COMPACTION_TOTAL, &figures.compaction);
    histogram(out, &names::HASH, &figures.hash);
    histogram(out, &names::HASH_KV, &figures.hash_kv);
}

fn disk(member: &Inner, out: &mut Exposition) {
    let figures = &member.board.figures;
    let size = member.database_size();
    out.value(&names::DB_SIZE, size.taken_bytes as f64);
    out.value(&names::DB_IN_USE, size.in_use_bytes as f64);
    out.value(&names::READ_TRANSACTIONS, 1.0 + figures.departing.get() as f64);
    histogram(out, &names::BACKEND_COMMIT, &figures.commit);
    histogram(out, &names::DEFRAGMENT, &figures.defragment);
    counter(out, &names::DEFRAGMENTING, &figures.defragmenting);
    histogram(out, &names::WAL_WRITE, &figures.wal_write);
    histogram(out, &names::WAL_FSYNC, &figures.wal_fsync);
    counter(out, &names::WAL_BYTES, &figures.wal_bytes);
    histogram(out, &names::BACKEND_SNAPSHOT, &figures.departed);
    histogram(out, &names::SNAP_DB_SAVE, &figures.arrived);
    histogram(out, &names::SNAP_DB_FSYNC, &figures.arrival_synced);
}

fn leases(member: &Inner, out: &mut Exposition) {
    let counts = member.shared.lessor().lock().counts().clone();
    out.value(&names::LEASES_GRANTED, counts.granted as f64);
    out.value(&names::LEASES_REVOKED, counts.revoked as f64);
    out.value(&names::LEASES_RENEWED, counts.renewed as f64);
    out.value(&names::LEASES_EXPIRED, counts.expired as f64);
    let ttls = Reading::new(names::LEASE_TTL.buckets(), counts.ttls.to_vec(), counts.ttls_sum);
    out.histogram(&names::LEASE_TTL, &[], &ttls);
}

/// The other members, and what goes to and comes from them.
fn peers(member: &Inner, out: &mut Exposition) {
    let own = member.identity.member_id.to_string();
    for (peer, figures) in member.outbox.all_figures() {
        let peer = peer.to_string();
        let (both, from, to) = ([("Local", &*own), ("Remote", &*peer)], [("From", &*peer)], [("To", &*peer)]);
        if figures.is_peer {
            out.labelled(&names::PEERS_KNOWN, &both, 1.0);
            out.labelled(&names::PEERS_ACTIVE, &both, f64::from(u8::from(figures.is_active)));
            out.labelled(&names::PEERS_LOST, &both, figures.lost_touch as f64);
            out.histogram(&names::PEER_ROUND_TRIP, &to, &figures.round_trips);
            // Not of others: they say themselves who they are, and each name would be a series for good.
            out.labelled(&names::PEER_SENT, &to, figures.sent_bytes as f64);
            out.labelled(&names::PEER_SEND_FAILURES, &to, figures.send_failures as f64);
            out.labelled(&names::PEER_RECEIVED, &from, figures.received_bytes as f64);
            out.labelled(&names::PEER_RECEIVE_FAILURES, &from, figures.receive_failures as f64);
        }
        let (sent, received) = (&figures.snapshots_sent, &figures.snapshots_received);
        if sent.is_used() {
            out.labelled(&names::SNAPSHOTS_SENDING, &to, sent.under_way as f64);
            out.labelled(&names::SNAPSHOT_SEND_SUCCESS, &to, sent.arrived as f64);
            out.labelled(&names::SNAPSHOT_SEND_FAILURES, &to, sent.failed as f64);
            out.histogram(&names::SNAPSHOT_SEND, &to, &sent.took);
        }
        if received.is_used() {
            out.labelled(&names::SNAPSHOTS_RECEIVING, &from, received.under_way as f64);
            out.labelled(&names::SNAPSHOT_RECEIVE_SUCCESS, &from, received.arrived as f64);
            out.labelled(&names::SNAPSHOT_RECEIVE_FAILURES, &from, received.failed as f64);
            out.histogram(&names::SNAPSHOT_RECEIVE, &from, &received.took);
        }
    }
}
