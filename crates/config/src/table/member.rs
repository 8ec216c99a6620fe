//! Flags of the member itself: its place on disk, its listeners, its limits.

use crate::flag::{Flag, Kind::*};

#[rustfmt::skip] // one row is one flag
pub(super) static MEMBER: &[Flag] = &[
    Flag::new("name", Text, "default",
        "What people call this member"),
    Flag::new("data-dir", Text, "",
        "The directory of all that is stored, made with mode 0700; empty means the member's name with `.quorate`"),
    Flag::new("wal-dir", Text, "",
        "A directory of its own for the write-ahead log; empty means inside the data directory"),
    Flag::new("snapshot-count", Uint, "10000",
        "How many applied entries the raft log may grow by before it is cut")
        .no_meaning("the log is let go of as the backend's commits make it unneeded, without snapshots"),
    Flag::new("snapshot-catchup-entries", Uint, "5000",
        "How many entries are left in the raft log for slow followers when it is cut").of("3.6+"),
    Flag::new("heartbeat-interval", Uint, "100",
        "Milliseconds between the leader's heartbeats"),
    Flag::new("election-timeout", Uint, "1000",
        "Milliseconds without a leader before an election; at least 5 heartbeats, at most 50000"),
    Flag::new("initial-election-tick-advance", Bool, "true",
        "Shorten the first wait for an election after a start"),
    Flag::new("listen-peer-urls", Urls, "http://localhost:2380",
        "Where other members connect to"),
    Flag::new("listen-client-urls", Urls, "http://localhost:2379",
        "Where clients connect to: http://ip:port or unix:///path"),
    Flag::new("listen-client-http-urls", Urls, "",
        "Where clients connect to with HTTP instead of gRPC; --listen-client-urls then serve gRPC alone").of("3.5.8+"),
    Flag::new("listen-metrics-urls", Urls, "",
        "Further addresses for /metrics and the health checks, and nothing else; served as soon as the member runs"),
    Flag::new("max-snapshots", Uint, "5",
        "How many snapshot files to keep").of("3.7-")
        .no_meaning("no snapshot files are kept: the backend file is the snapshot"),
    Flag::new("max-wals", Uint, "5",
        "How many files of the write-ahead log to keep")
        .no_meaning("log segments are recycled as soon as no restart can need them"),
    Flag::new("quota-backend-bytes", Int, "0",
        "How large the backend may grow before writes are refused; 0 means 2 GiB, less than 0 no limit"),
    Flag::new("quorate-value-memory-bytes", Uint, "0",
        "How much memory may hold current values; what does not fit is read from disk; 0 means a quarter of the \
         machine's (or the container's) memory").of("Quorate"),
    Flag::new("quorate-log-segment-bytes", Uint, "67108864",
        "How large the log's files are, a few of which always lie on the disk; none is smaller than the largest request \
         and 1 MiB, but for one that follows a snapshot").of("Quorate"),
    Flag::new("backend-bbolt-freelist-type", Text, "map",
        "How bbolt keeps its free pages").no_meaning("the backend is redb, not bbolt"),
    Flag::new("backend-batch-interval", Duration, "0s",
        "The time between two commits of the backend; up to ten times as long while little waits; 0 means 100ms"),
    Flag::new("backend-batch-limit", Int, "0",
        "The most changes in one commit of the backend; 0 means 10000")
        .no_meaning("commits are off the path of requests and bounded by bytes"),
    Flag::new("max-txn-ops", Uint, "128",
        "The most operations in one transaction"),
    Flag::new("max-request-bytes", Uint, "1572864",
        "The largest request a client may send"),
    Flag::new("max-concurrent-streams", Uint32, "4294967295",
        "How many streams a connection may hold open at a time; 0 and more than 16384 count as 16384"),
    Flag::new("enable-grpc-gateway", Bool, "true",
        "Serve the JSON form of the API under /v3"),
    Flag::new("grpc-keepalive-min-time", Duration, "5s",
        "How often a client may ping at most"),
    Flag::new("grpc-keepalive-interval", Duration, "2h",
        "How often an idle client is pinged; 0 means never"),
    Flag::new("grpc-keepalive-timeout", Duration, "20s",
        "How long a client may take to answer a ping; 0 means for ever"),
    Flag::new("socket-reuse-port", Bool, "false",
        "Set SO_REUSEPORT on listeners").at(&["socket-options.reuse-port"]),
    Flag::new("socket-reuse-address", Bool, "false",
        "Set SO_REUSEADDR on listeners").at(&["socket-options.reuse-address"])
        .no_meaning("it is always set, so that a restart need not wait for old connections"),
    Flag::new("raft-read-timeout", Duration, "5s",
        "How long a read from a peer may take; at least 5s").not_in_file(),
    Flag::new("raft-write-timeout", Duration, "5s",
        "How long a write to a peer may take; at least 5s").not_in_file(),
    Flag::new("compaction-batch-limit", Int, "1000",
        "How many revisions a compaction removes in one go").of("3.6+"),
    Flag::new("compaction-sleep-interval", Duration, "10ms",
        "How long a compaction rests between two goes").of("3.6+"),
    Flag::new("watch-progress-notify-interval", Duration, "10m",
        "How often an idle watcher that asked for it is told of its progress; at least 100ms").of("3.6+"),
    Flag::new("warning-apply-duration", Duration, "100ms",
        "Log an apply that takes longer").of("3.6+"),
    Flag::new("warning-unary-request-duration", Duration, "300ms",
        "Log a request that takes longer").of("3.6+"),
    Flag::new("bootstrap-defrag-threshold-megabytes", Uint, "0",
        "Defragment at start if that frees so many megabytes").of("3.6+")
        .refused("defragmentation at start comes later; freed space is used again without it"),
    Flag::new("memory-mlock", Bool, "false",
        "Keep the pages of the database in memory").of("3.6+")
        .refused("locking memory comes later"),
    Flag::new("feature-gates", Gates, "",
        "Switch features by name: LeaseCheckpoint=true,...").of("3.6+"),
];

#[rustfmt::skip]
pub(super) static UNSAFE: &[Flag] = &[
    Flag::new("force-new-cluster", Bool, "false",
        "Turn this member's data into a cluster of one"),
    Flag::new("unsafe-no-fsync", Bool, "false",
        "Do not wait for the disk before a write is acknowledged")
        .refused("an acknowledged write is on disk here, always; put the data directory on a memory file system for tests"),
];

#[rustfmt::skip]
pub(super) static PROGRAM: &[Flag] = &[
    Flag::new("config-file", Text, "",
        "A YAML or JSON file with the settings; other flags and variables are then ignored").not_in_file(),
    Flag::new("check-config", Bool, "false",
        "Tell what is wrong with the settings, for a member without data, and start nothing").of("Quorate").not_in_file(),
    Flag::new("version", Bool, "false",
        "Print the version and exit").not_in_file(),
];
