//! From what the operator wants to what each part needs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use config::{InitialClusterState, Mounts, Url};
use server::{CorruptionChecks, FeatureGate, InitialState, Limits, Retention, Settings};
use types::InitialCluster;

/// What the log adds to the largest request, by far.
const WAL_OVERHEAD_BYTES: u64 = 1 << 20;

pub(crate) fn member(from: &config::Settings) -> Settings {
    let request_timeout = std::time::Duration::from_secs(5) + 2 * from.election_timeout;
    Settings {
        name: from.name.clone(),
        data_dir: from.data_dir.clone(),
        wal_dir: from.wal_dir.clone(),
        peer_urls: from.initial_advertise_peer_urls.iter().map(Url::to_string).collect(),
        client_urls: from.advertise_client_urls.iter().map(Url::to_string).collect(),
        initial_cluster: InitialCluster::default(),
        initial_state: initial_state(from),
        force_new_cluster: from.force_new_cluster,
        strict_reconfig_check: from.strict_reconfig_check,
        learners_max: from.max_learners,
        corruption_checks: CorruptionChecks {
            initial: from.corruption_checks.initial,
            interval: from.corruption_checks.interval,
            compaction_interval: from.corruption_checks.compaction_interval,
        },
        heartbeat_interval: from.heartbeat_interval,
        election_timeout: from.election_timeout,
        pre_vote: from.pre_vote,
        initial_election_tick_advance: from.initial_election_tick_advance,
        peer_read_timeout: from.peer_read_timeout,
        peer_write_timeout: from.peer_write_timeout,
        limits: Limits {
            max_request_bytes: from.max_request_bytes,
            max_txn_ops: from.max_txn_ops,
            max_concurrent_streams: from.max_concurrent_streams,
            progress_notify_interval: from.watch_progress_notify_interval,
            request_timeout,
            election_timeout: from.election_timeout,
        },
        value_budget_bytes: from.value_memory_budget_bytes,
        restore_threads: std::thread::available_parallelism().map_or(1, usize::from).min(RESTORE_THREADS_MAX),
        catchup_entries: from.snapshot_catchup_entries,
        backend_batch_interval: from.backend_batch_interval,
        compaction_batch_limit: from.compaction_batch_limit,
        compaction_sleep_interval: from.compaction_sleep_interval,
        auto_compaction: from.auto_compaction.map(|retention| match retention {
            config::Retention::Period(period) => Retention::Period(period),
            config::Retention::Revisions(revisions) => Retention::Revisions(revisions),
        }),
        quota_bytes: from.quota_backend_bytes,
        lease_checkpoints: from.lease_checkpoint,
        lease_checkpoints_persist: from.lease_checkpoint_persist,
        warning_apply_duration: from.warning_apply_duration,
        warning_request_duration: from.warning_unary_request_duration,
        wal_segment_size_bytes: wal_segment_size_bytes(from),
        feature_gates: from.feature_gates.iter().map(feature_gate).collect(),
    }
}

fn feature_gate(from: &config::FeatureGate) -> FeatureGate {
    FeatureGate { name: from.name, stage: from.stage, enabled: from.enabled }
}

pub(crate) fn initial_state(from: &config::Settings) -> InitialState {
    match from.initial_cluster_state {
        InitialClusterState::New => InitialState::New,
        InitialClusterState::Existing => InitialState::Existing,
    }
}

/// More threads read faster than one takes from them.
const RESTORE_THREADS_MAX: usize = 4;

/// Every request must fit into one segment.
fn wal_segment_size_bytes(from: &config::Settings) -> u64 {
    (from.max_request_bytes as u64 + WAL_OVERHEAD_BYTES).next_multiple_of(from.log_segment_bytes)
}

pub(crate) fn front_end(from: &config::Settings) -> grpc::Settings {
    grpc::Settings {
        keepalive_min_time: from.grpc_keepalive_min_time,
        keepalive_interval: from.grpc_keepalive_interval,
        keepalive_timeout: from.grpc_keepalive_timeout,
        cors_origins: from.cors.clone(),
        serves_gateway: from.enable_grpc_gateway,
        hosts: from.host_whitelist.clone(),
        ..grpc::Settings::default()
    }
}

/// URLs as they are written in flags.
pub(crate) fn urls(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

/// A directory that others may read holds secrets they should not: say so, as etcd does.
pub(crate) fn note_open_directory(dir: &Path) {
    let Ok(found) = std::fs::metadata(dir) else { return };
    let mode = found.permissions().mode() & 0o777;
    if found.is_dir() && mode & 0o077 != 0 {
        let dir = dir.display();
        tracing::warn!(%dir, mode = format!("{mode:o}"), "the data directory is open to other users; use mode 700");
    }
}

/// Data that goes with its container is soon missed: say so.
pub(crate) fn note_container_layer(settings: &config::Settings) {
    let Ok(text) = config::read_file(Path::new("/proc/self/mountinfo")) else { return };
    let mounts = Mounts::parse(&String::from_utf8_lossy(&text));
    let dirs = [("--data-dir", Some(&settings.data_dir)), ("--wal-dir", settings.wal_dir.as_ref())];
    for (setting, dir) in dirs.into_iter().filter_map(|(setting, dir)| Some((setting, dir?))) {
        if place(dir).is_some_and(|place| mounts.lies_in_container(&place)) {
            tracing::warn!(
                setting,
                dir = %dir.display(),
                "the directory lies on the container's own layer, which is gone once the container is made anew: mount a volume \
                 there, or set it to a directory on a volume"
            );
        }
    }
}

/// Where a directory is, or will be once it is made: as an absolute path without links.
fn place(dir: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    let there = dir.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    let (ancestor, place) = there?;
    Some(place.join(dir.strip_prefix(ancestor).ok()?))
}
