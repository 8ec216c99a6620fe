//! Every name under which something is told, as etcd has it, with its type and its buckets. The names are etcd's; so are types that seem odd.
//!
//! Source: etcd-io/etcd, the `metrics.go` of its packages, 3.5 to 3.8; `/metrics` of a running 3.5.30.

use std::time::Duration;

use crate::exposition::{Family, Kind};
use crate::histogram::Buckets;

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str, buckets: Buckets) -> Family {
    Family { name, kind: Kind::Histogram(buckets), help }
}

impl Family {
    /// The buckets of a histogram.
    ///
    /// # Panics
    /// If it is none.
    pub const fn buckets(&self) -> Buckets {
        match self.kind {
            Kind::Histogram(buckets) => buckets,
            _ => panic!("only histograms have buckets"),
        }
    }
}

/// The usual ones of Prometheus' libraries, in nanoseconds.
static CALL_DURATION_EDGES: [u64; 11] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

// etcd_server_*, etcd_cluster_*
pub static CLUSTER_VERSION: Family =
    gauge("etcd_cluster_version", "1 for the version that the cluster works by, 0 for those before it.");
pub static APPLY: Family = histogram(
    "etcd_server_apply_duration_seconds",
    "How long committed requests took to apply, by kind and success; what is applied together shares the time.",
    Buckets::seconds(Duration::from_micros(100), 20),
);
pub static CLIENT_REQUESTS: Family =
    counter("etcd_server_client_requests_total", "Calls by the API version that their clients say they have.");
pub static FEATURE_ENABLED: Family = gauge("etcd_server_feature_enabled", "1 for each feature gate that is on.");
pub static BUILD_LANGUAGE: Family =
    gauge("etcd_server_go_version", "1 for the language that the server is written in, and its version.");
pub static HAS_LEADER: Family = gauge("etcd_server_has_leader", "Whether this member knows a leader.");
pub static HEALTH_FAILURES: Family =
    counter("etcd_server_health_failures", "Requests to /health that were answered with a failure.");
pub static HEALTH_SUCCESS: Family =
    counter("etcd_server_health_success", "Requests to /health that were answered with success.");
pub static HEALTH_CHECK: Family =
    gauge("etcd_server_healthcheck", "What each check of /livez and /readyz found last: 1 if all was well.");
pub static HEALTH_CHECKS: Family = counter("etcd_server_healthchecks_total", "Checks made for /livez and /readyz.");
pub static HEARTBEATS_LATE: Family = counter(
    "etcd_server_heartbeat_send_failures_total",
    "Heartbeats that this leader sent late: the machine is overloaded.",
);
pub static SERVER_ID: Family = gauge("etcd_server_id", "1 for the id of this member.");
pub static IS_LEADER: Family = gauge("etcd_server_is_leader", "Whether this member leads.");
pub static IS_LEARNER: Family = gauge("etcd_server_is_learner", "Whether this member follows without a vote.");
pub static LEADER_CHANGES: Family =
    counter("etcd_server_leader_changes_seen_total", "How often this member learned of another leader.");
pub static PROMOTE_FAILURES: Family =
    counter("etcd_server_learner_promote_failures", "Learners that this leader did not promote, by reason.");
pub static PROMOTE_SUCCESSES: Family =
    counter("etcd_server_learner_promote_successes", "Learners that this leader promoted.");
pub static APPLIED: Family =
    gauge("etcd_server_proposals_applied_total", "Index of the log entry up to which all are applied.");
pub static COMMITTED: Family =
    gauge("etcd_server_proposals_committed_total", "Index of the log entry up to which all are known to be committed.");
pub static PROPOSALS_FAILED: Family =
    counter("etcd_server_proposals_failed_total", "Proposals that found no leader, or were not committed in time.");
pub static PROPOSALS_PENDING: Family =
    gauge("etcd_server_proposals_pending", "Proposals of this member's clients that are not applied yet.");
pub static QUOTA: Family = gauge(
    "etcd_server_quota_backend_bytes",
    "Size of the database past which writes are refused; -1 if there is no limit.",
);
pub static RANGE_DURATION: Family = histogram(
    "etcd_server_range_duration_seconds",
    "How long ranges took once the state was fresh enough, by success.",
    Buckets::seconds(Duration::from_micros(100), 20),
);
pub static READ_INDEXES_FAILED: Family =
    counter("etcd_server_read_indexes_failed_total", "Linearizable reads that got no read index in time.");
pub static REQUEST_DURATION: Family = histogram(
    "etcd_server_request_duration_seconds",
    "How long requests took in the server, waits included, by kind and success.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static SLOW_APPLIES: Family =
    counter("etcd_server_slow_apply_total", "How often applying took longer than --warning-apply-duration.");
pub static SLOW_READ_INDEXES: Family = counter(
    "etcd_server_slow_read_indexes_total",
    "How often a read round took so long that more members were asked, or had to begin anew.",
);
pub static SNAPSHOT_APPLY: Family = gauge(
    "etcd_server_snapshot_apply_in_progress_total",
    "1 while the state of a received snapshot takes the place of this member's.",
);
pub static SERVER_VERSION: Family =
    gauge("etcd_server_version", "1 for the etcd version whose behaviour this server has.");

// etcd_mvcc_*
pub static READ_TRANSACTIONS: Family = gauge(
    "etcd_mvcc_db_open_read_transactions",
    "States of the database that are held for readers: the newest, and those that are being sent.",
);
pub static DB_SIZE: Family =
    gauge("etcd_mvcc_db_total_size_in_bytes", "Space that the database file takes on the disk.");
pub static DB_IN_USE: Family =
    gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Part of the database file that is in use.");
pub static DELETES: Family = counter("etcd_mvcc_delete_total", "Deletions applied.");
pub static HASH: Family = histogram(
    "etcd_mvcc_hash_duration_seconds",
    "How long hashes of the whole database took.",
    Buckets::seconds(Duration::from_millis(10), 15),
);
pub static HASH_KV: Family = histogram(
    "etcd_mvcc_hash_rev_duration_seconds",
    "How long hashes of keys up to a revision took.",
    Buckets::seconds(Duration::from_millis(10), 15),
);
pub static PUTS: Family = counter("etcd_mvcc_put_total", "Puts applied.");
pub static RANGES: Family = counter("etcd_mvcc_range_total", "Ranges read.");
pub static TXNS: Family = counter("etcd_mvcc_txn_total", "Transactions of more than one operation.");

// etcd_disk_*, etcd_snap_*
pub static BACKEND_COMMIT: Family = histogram(
    "etcd_disk_backend_commit_duration_seconds",
    "How long commits of the database took.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static DEFRAGMENT: Family = histogram(
    "etcd_disk_backend_defrag_duration_seconds",
    "How long defragmentations took.",
    Buckets::seconds(Duration::from_millis(100), 13),
);
pub static BACKEND_SNAPSHOT: Family = histogram(
    "etcd_disk_backend_snapshot_duration_seconds",
    "How long it took to send a state of the database.",
    Buckets::seconds(Duration::from_millis(10), 17),
);
pub static DEFRAGMENTING: Family = gauge("etcd_disk_defrag_inflight", "1 while the database is being defragmented.");
pub static WAL_FSYNC: Family = histogram(
    "etcd_disk_wal_fsync_duration_seconds",
    "How long durable writes of the log took.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static WAL_BYTES: Family = gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log since the start.");
pub static WAL_WRITE: Family = histogram(
    "etcd_disk_wal_write_duration_seconds",
    "How long it took to put together what a durable write of the log held.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static SNAP_DB_FSYNC: Family = histogram(
    "etcd_snap_db_fsync_duration_seconds",
    "How long it took to check and sync a received state.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static SNAP_DB_SAVE: Family = histogram(
    "etcd_snap_db_save_total_duration_seconds",
    "How long it took to receive and save a state.",
    Buckets::seconds(Duration::from_millis(100), 10),
);
pub static SNAP_FSYNC: Family = histogram(
    "etcd_snap_fsync_duration_seconds",
    "Nothing: there are no snapshot files of raft.",
    Buckets::seconds(Duration::from_millis(1), 14),
);

// etcd_network_*
pub static PEERS_ACTIVE: Family = gauge("etcd_network_active_peers", "Whether this member is in touch with the other.");
pub static CLIENT_RECEIVED: Family =
    counter("etcd_network_client_grpc_received_bytes_total", "Bytes of messages received from gRPC clients.");
pub static CLIENT_SENT: Family =
    counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of messages sent to gRPC clients.");
pub static PEERS_LOST: Family =
    counter("etcd_network_disconnected_peers_total", "How often this member lost touch with the other.");
pub static PEERS_KNOWN: Family = gauge("etcd_network_known_peers", "The other members.");
pub static PEER_RECEIVED: Family =
    counter("etcd_network_peer_received_bytes_total", "Bytes received from the other member.");
pub static PEER_RECEIVE_FAILURES: Family = counter(
    "etcd_network_peer_received_failures_total",
    "Streams from the other member that broke off or did not come about.",
);
pub static PEER_ROUND_TRIP: Family = histogram(
    "etcd_network_peer_round_trip_time_seconds",
    "How long probes of the other member took.",
    Buckets::seconds(Duration::from_micros(100), 16),
);
pub static PEER_SENT: Family = counter("etcd_network_peer_sent_bytes_total", "Bytes sent to the other member.");
pub static PEER_SEND_FAILURES: Family =
    counter("etcd_network_peer_sent_failures_total", "Streams and posts to the other member that failed.");
pub static STREAM_FAILURES: Family = counter(
    "etcd_network_server_stream_failures_total",
    "Client streams that failed for another reason than their client's leave.",
);
pub static SNAPSHOT_RECEIVE_FAILURES: Family =
    counter("etcd_network_snapshot_receive_failures", "Snapshots from the other member that were abandoned.");
pub static SNAPSHOTS_RECEIVING: Family =
    gauge("etcd_network_snapshot_receive_inflights_total", "Snapshots that are being received from the other member.");
pub static SNAPSHOT_RECEIVE_SUCCESS: Family =
    counter("etcd_network_snapshot_receive_success", "Snapshots received from the other member.");
pub static SNAPSHOT_RECEIVE: Family = histogram(
    "etcd_network_snapshot_receive_total_duration_seconds",
    "How long it took to receive a snapshot from the other member.",
    Buckets::seconds(Duration::from_millis(100), 10),
);
pub static SNAPSHOT_SEND_FAILURES: Family =
    counter("etcd_network_snapshot_send_failures", "Snapshots that did not reach the other member.");
pub static SNAPSHOTS_SENDING: Family =
    gauge("etcd_network_snapshot_send_inflights_total", "Snapshots that are being sent to the other member.");
pub static SNAPSHOT_SEND_SUCCESS: Family =
    counter("etcd_network_snapshot_send_success", "Snapshots sent to the other member.");
pub static SNAPSHOT_SEND: Family = histogram(
    "etcd_network_snapshot_send_total_duration_seconds",
    "How long it took to send a snapshot to the other member.",
    Buckets::seconds(Duration::from_millis(100), 10),
);

// etcd_debugging_*
pub static AUTH_REVISION: Family = gauge("etcd_debugging_auth_revision", "Revision of the users and roles.");
pub static COMMIT_REBALANCE: Family = histogram(
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "Nothing: the database has no such step.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static COMMIT_SPILL: Family = histogram(
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "Nothing: the database has no such step.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static COMMIT_WRITE: Family = histogram(
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
    "Nothing: commits are not measured by their steps.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static LEASES_GRANTED: Family = counter("etcd_debugging_lease_granted_total", "Leases granted.");
pub static LEASES_RENEWED: Family =
    counter("etcd_debugging_lease_renewed_total", "Leases renewed while this member led.");
pub static LEASES_REVOKED: Family = counter("etcd_debugging_lease_revoked_total", "Leases revoked.");
pub static LEASE_TTL: Family = histogram(
    "etcd_debugging_lease_ttl_total",
    "Times to live of the leases granted, in seconds.",
    Buckets::numbers(1, 24),
);
pub static COMPACT_REVISION: Family =
    gauge("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction; -1 if there was none.");
pub static CURRENT_REVISION: Family = gauge("etcd_debugging_mvcc_current_revision", "Revision of the store.");
pub static COMPACTION_KEYS: Family =
    counter("etcd_debugging_mvcc_db_compaction_keys_total", "Versions of keys removed by compactions.");
pub static COMPACTION_LAST: Family =
    gauge("etcd_debugging_mvcc_db_compaction_last", "When the last compaction ended, in Unix time; 0 after a start.");
pub static COMPACTION_PAUSE: Family = histogram(
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    "How long each step of a compaction took.",
    Buckets::milliseconds(Duration::from_millis(1), 13),
);
pub static COMPACTION_TOTAL: Family = histogram(
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
    "How long compactions took.",
    Buckets::milliseconds(Duration::from_millis(100), 14),
);
pub static EVENTS: Family = counter("etcd_debugging_mvcc_events_total", "Events sent to watchers.");
pub static INDEX_COMPACTION_PAUSE: Family = histogram(
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
    "Nothing: the index is cleared in the steps of the compaction.",
    Buckets::milliseconds(Duration::from_micros(500), 14),
);
pub static KEYS: Family = gauge("etcd_debugging_mvcc_keys_total", "Keys that live.");
pub static EVENTS_PENDING: Family = gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.");
pub static RANGES_OLD: Family =
    counter("etcd_debugging_mvcc_range_total", "Ranges read; the old name of etcd_mvcc_range_total.");
pub static WATCHERS_SLOW: Family =
    gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind the current revision.");
pub static PUT_BYTES: Family = gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.");
pub static WATCH_STREAMS: Family = gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams that are open.");
pub static WATCHERS: Family = gauge("etcd_debugging_mvcc_watcher_total", "Watchers.");
pub static ALARMS: Family = gauge("etcd_debugging_server_alarms", "1 for each alarm that is raised.");
pub static LEASES_EXPIRED: Family =
    counter("etcd_debugging_server_lease_expired_total", "Leases that this leader found lapsed.");
pub static WATCH_LOOP_CONTROL: Family = histogram(
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
    "How long answers to requests of watch streams took to be sent, once they were ready; with --metrics=extensive.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static WATCH_LOOP_PROGRESS: Family = histogram(
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
    "How long progress notices took to be sent, once they were ready; with --metrics=extensive.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static WATCH_LOOP_EVENT: Family = histogram(
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
    "How long each event took to be sent, once it was ready; with --metrics=extensive.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static WATCH_LOOP_EVENTS: Family = histogram(
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
    "How long responses with events took to be sent, once they were ready; with --metrics=extensive.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static SNAP_MARSHALLING: Family = histogram(
    "etcd_debugging_snap_save_marshalling_duration_seconds",
    "Nothing: there are no snapshot files of raft.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static SNAP_SAVE: Family = histogram(
    "etcd_debugging_snap_save_total_duration_seconds",
    "Nothing: there are no snapshot files of raft.",
    Buckets::seconds(Duration::from_millis(1), 14),
);
pub static V2_EXPIRES: Family = counter("etcd_debugging_store_expires_total", "Nothing: there is no version 2 store.");
pub static V2_WATCH_REQUESTS: Family =
    counter("etcd_debugging_store_watch_requests_total", "Nothing: there is no version 2 store.");
pub static V2_WATCHERS: Family = gauge("etcd_debugging_store_watchers", "Nothing: there is no version 2 store.");

// etcd_grpc_proxy_*
pub static PROXY_HITS: Family = gauge("etcd_grpc_proxy_cache_hits_total", "Nothing: this is no proxy.");
pub static PROXY_KEYS: Family = gauge("etcd_grpc_proxy_cache_keys_total", "Nothing: this is no proxy.");
pub static PROXY_MISSES: Family = gauge("etcd_grpc_proxy_cache_misses_total", "Nothing: this is no proxy.");
pub static PROXY_EVENTS: Family = counter("etcd_grpc_proxy_events_coalescing_total", "Nothing: this is no proxy.");
pub static PROXY_WATCHERS: Family = gauge("etcd_grpc_proxy_watchers_coalescing_total", "Nothing: this is no proxy.");

// grpc_server_*
pub static CALLS_STARTED: Family = counter("grpc_server_started_total", "Calls that began.");
pub static CALLS_HANDLED: Family = counter("grpc_server_handled_total", "Calls that ended, by code.");
pub static MESSAGES_RECEIVED: Family = counter("grpc_server_msg_received_total", "Messages received in calls.");
pub static MESSAGES_SENT: Family = counter("grpc_server_msg_sent_total", "Messages sent in calls.");
pub static CALL_DURATION: Family = histogram(
    "grpc_server_handling_seconds",
    "How long calls took, from their headers to their status; with --metrics=extensive.",
    Buckets::listed(&CALL_DURATION_EDGES),
);

// The process and its scrapes
pub static FILES_MAX: Family = gauge("os_fd_limit", "How many files the process may open.");
pub static FILES: Family = gauge("os_fd_used", "Files that the process has open.");
pub static PROCESS_CPU: Family =
    counter("process_cpu_seconds_total", "Processor time that the process has used, in seconds.");
pub static PROCESS_FILES_MAX: Family = gauge("process_max_fds", "How many files the process may open.");
pub static PROCESS_NETWORK_RECEIVED: Family =
    counter("process_network_receive_bytes_total", "Bytes received in the network namespace of the process.");
pub static PROCESS_NETWORK_SENT: Family =
    counter("process_network_transmit_bytes_total", "Bytes sent in the network namespace of the process.");
pub static PROCESS_FILES: Family = gauge("process_open_fds", "Files that the process has open.");
pub static PROCESS_RESIDENT: Family = gauge("process_resident_memory_bytes", "Memory that the process has in use.");
pub static PROCESS_START: Family = gauge("process_start_time_seconds", "When the process began, in Unix time.");
pub static PROCESS_VIRTUAL: Family =
    gauge("process_virtual_memory_bytes", "Address space that the process has reserved.");
pub static PROCESS_VIRTUAL_MAX: Family =
    gauge("process_virtual_memory_max_bytes", "Address space that the process may reserve.");
pub static SCRAPING: Family = gauge("promhttp_metric_handler_requests_in_flight", "Scrapes that are being answered.");
pub static SCRAPES: Family = counter("promhttp_metric_handler_requests_total", "Scrapes answered, by HTTP status.");

/// Those that have nothing to tell here, and are told all the same because dashboards ask for them.
pub static NOTHING: [&Family; 15] = [
    &SNAP_FSYNC,
    &COMMIT_REBALANCE,
    &COMMIT_SPILL,
    &COMMIT_WRITE,
    &INDEX_COMPACTION_PAUSE,
    &SNAP_MARSHALLING,
    &SNAP_SAVE,
    &V2_EXPIRES,
    &V2_WATCH_REQUESTS,
    &V2_WATCHERS,
    &PROXY_HITS,
    &PROXY_KEYS,
    &PROXY_MISSES,
    &PROXY_EVENTS,
    &PROXY_WATCHERS,
];

/// All of them, by name.
pub static ALL: [&Family; 124] = [
    &CLUSTER_VERSION,
    &AUTH_REVISION,
    &COMMIT_REBALANCE,
    &COMMIT_SPILL,
    &COMMIT_WRITE,
    &LEASES_GRANTED,
    &LEASES_RENEWED,
    &LEASES_REVOKED,
    &LEASE_TTL,
    &COMPACT_REVISION,
    &CURRENT_REVISION,
    &COMPACTION_KEYS,
    &COMPACTION_LAST,
    &COMPACTION_PAUSE,
    &COMPACTION_TOTAL,
    &EVENTS,
    &INDEX_COMPACTION_PAUSE,
    &KEYS,
    &EVENTS_PENDING,
    &RANGES_OLD,
    &WATCHERS_SLOW,
    &PUT_BYTES,
    &WATCH_STREAMS,
    &WATCHERS,
    &ALARMS,
    &LEASES_EXPIRED,
    &WATCH_LOOP_CONTROL,
    &WATCH_LOOP_PROGRESS,
    &WATCH_LOOP_EVENT,
    &WATCH_LOOP_EVENTS,
    &SNAP_MARSHALLING,
    &SNAP_SAVE,
    &V2_EXPIRES,
    &V2_WATCH_REQUESTS,
    &V2_WATCHERS,
    &BACKEND_COMMIT,
    &DEFRAGMENT,
    &BACKEND_SNAPSHOT,
    &DEFRAGMENTING,
    &WAL_FSYNC,
    &WAL_BYTES,
    &WAL_WRITE,
    &PROXY_HITS,
    &PROXY_KEYS,
    &PROXY_MISSES,
    &PROXY_EVENTS,
    &PROXY_WATCHERS,
    &READ_TRANSACTIONS,
    &DB_SIZE,
    &DB_IN_USE,
    &DELETES,
    &HASH,
    &HASH_KV,
    &PUTS,
    &RANGES,
    &TXNS,
    &PEERS_ACTIVE,
    &CLIENT_RECEIVED,
    &CLIENT_SENT,
    &PEERS_LOST,
    &PEERS_KNOWN,
    &PEER_RECEIVED,
    &PEER_RECEIVE_FAILURES,
    &PEER_ROUND_TRIP,
    &PEER_SENT,
    &PEER_SEND_FAILURES,
    &STREAM_FAILURES,
    &SNAPSHOT_RECEIVE_FAILURES,
    &SNAPSHOTS_RECEIVING,
    &SNAPSHOT_RECEIVE_SUCCESS,
    &SNAPSHOT_RECEIVE,
    &SNAPSHOT_SEND_FAILURES,
    &SNAPSHOTS_SENDING,
    &SNAPSHOT_SEND_SUCCESS,
    &SNAPSHOT_SEND,
    &APPLY,
    &CLIENT_REQUESTS,
    &FEATURE_ENABLED,
    &BUILD_LANGUAGE,
    &HAS_LEADER,
    &HEALTH_FAILURES,
    &HEALTH_SUCCESS,
    &HEALTH_CHECK,
    &HEALTH_CHECKS,
    &HEARTBEATS_LATE,
    &SERVER_ID,
    &IS_LEADER,
    &IS_LEARNER,
    &LEADER_CHANGES,
    &PROMOTE_FAILURES,
    &PROMOTE_SUCCESSES,
    &APPLIED,
    &COMMITTED,
    &PROPOSALS_FAILED,
    &PROPOSALS_PENDING,
    &QUOTA,
    &RANGE_DURATION,
    &READ_INDEXES_FAILED,
    &REQUEST_DURATION,
    &SLOW_APPLIES,
    &SLOW_READ_INDEXES,
    &SNAPSHOT_APPLY,
    &SERVER_VERSION,
    &SNAP_DB_FSYNC,
    &SNAP_DB_SAVE,
    &SNAP_FSYNC,
    &CALLS_HANDLED,
    &CALL_DURATION,
    &MESSAGES_RECEIVED,
    &MESSAGES_SENT,
    &CALLS_STARTED,
    &FILES_MAX,
    &FILES,
    &PROCESS_CPU,
    &PROCESS_FILES_MAX,
    &PROCESS_NETWORK_RECEIVED,
    &PROCESS_NETWORK_SENT,
    &PROCESS_FILES,
    &PROCESS_RESIDENT,
    &PROCESS_START,
    &PROCESS_VIRTUAL,
    &PROCESS_VIRTUAL_MAX,
    &SCRAPING,
    &SCRAPES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_once_and_in_order_and_say_what_they_are() {
        assert!(ALL.is_sorted_by(|one, other| one.name < other.name));
        for family in ALL {
            assert!(family.help.ends_with('.'), "{}", family.name);
            assert!(family.name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
        assert!(NOTHING.iter().all(|family| family.help.starts_with("Nothing: ")));
    }
}
