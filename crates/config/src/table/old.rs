//! Names that newer etcd versions dropped, and what never made it into the version 3 server.

use crate::flag::{FileKey, Flag, Kind::*, Status};

const PROXY: &str = "the version 2 proxy is gone, from etcd 3.6 too";
const PROXY_TIMES: &str = "only the version 2 proxy used it, which is gone, from etcd 3.6 too";

const fn name(old: &'static str, new: &'static str) -> Flag {
    Flag {
        name: old,
        kind: Ignored, // that of the new name counts
        default: "",
        versions: "3.6-",
        file: FileKey::Same,
        help: "",
        status: Status::OldName(new),
    }
}

const fn gate(old: &'static str, gate: &'static str, default: &'static str) -> Flag {
    Flag {
        name: old,
        kind: Bool,
        default,
        versions: "3.6-",
        file: FileKey::Same,
        help: "",
        status: Status::OldGate(gate),
    }
}

const fn legacy(name: &'static str) -> Flag {
    Flag {
        name,
        kind: Ignored,
        default: "",
        versions: "",
        file: FileKey::Nowhere,
        help: "Accepted and ignored, with a warning",
        status: Status::Legacy,
    }
}

pub(super) static OLD_NAMES: &[Flag] = &[
    gate("experimental-initial-corrupt-check", "InitialCorruptCheck", "false"),
    name("experimental-corrupt-check-time", "corrupt-check-time"),
    gate("experimental-compact-hash-check-enabled", "CompactHashCheck", "false"),
    name("experimental-compact-hash-check-time", "compact-hash-check-time"),
    gate("experimental-enable-lease-checkpoint", "LeaseCheckpoint", "false"),
    gate("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist", "false"),
    name("experimental-compaction-batch-limit", "compaction-batch-limit"),
    name("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    name("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    name("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    name("experimental-downgrade-check-time", "downgrade-check-time"),
    name("experimental-max-learners", "max-learners"),
    name("experimental-memory-mlock", "memory-mlock"),
    name("experimental-warning-apply-duration", "warning-apply-duration"),
    name("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    gate("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer", "true"),
    name("experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes"),
    gate("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag", "false"),
    // The file spells it otherwise than the command line does.
    name("experimental-snapshot-catchup-entries", "snapshot-catchup-entries")
        .at(&["experimental-snapshot-catch-up-entries", "experimental-snapshot-catchup-entries"]),
    name("experimental-enable-distributed-tracing", "enable-distributed-tracing"),
    name("experimental-distributed-tracing-address", "distributed-tracing-address"),
    name("experimental-distributed-tracing-service-name", "distributed-tracing-service-name"),
    name("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id"),
    name("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate"),
];

#[rustfmt::skip] // one row is one flag
pub(super) static VERSION_2: &[Flag] = &[
    Flag::new("enable-v2", Bool, "false",
        "Serve the version 2 API; ETCD_ENABLE_V2 brings only a warning, as in 3.6").of("3.5-").refused("the version 2 API comes later"),
    Flag::new("experimental-enable-v2v3", Text, "",
        "Serve the version 2 API from the version 3 store, under this prefix").of("3.5-")
        .refused("the version 2 API comes later"),
    Flag::new("v2-deprecation",
        Choice(&["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "not-yet",
        "How far the version 2 store is on its way out").of("3.7-")
        .no_meaning("there is no version 2 store here, and nothing of it is ever written"),
    Flag::new("proxy", Choice(&["off", "readonly", "on"]), "off",
        "Run as a version 2 proxy").of("3.5-").refused(PROXY),
    Flag::new("proxy-failure-wait", Uint, "5000",
        "Milliseconds a failed endpoint is left alone").of("3.5-").no_meaning(PROXY_TIMES),
    Flag::new("proxy-refresh-interval", Uint, "30000",
        "Milliseconds between two looks at the members").of("3.5-").no_meaning(PROXY_TIMES),
    Flag::new("proxy-dial-timeout", Uint, "1000",
        "Milliseconds connecting may take").of("3.5-").no_meaning(PROXY_TIMES),
    Flag::new("proxy-write-timeout", Uint, "5000",
        "Milliseconds a write may take").of("3.5-").no_meaning(PROXY_TIMES),
    Flag::new("proxy-read-timeout", Uint, "0",
        "Milliseconds a read may take").of("3.5-").no_meaning(PROXY_TIMES),
    legacy("cluster-active-size"),
    legacy("cluster-remove-delay"),
    legacy("cluster-sync-interval"),
    legacy("config"),
    legacy("force"),
    legacy("max-result-buffer"),
    legacy("max-retry-attempts"),
    legacy("peer-heartbeat-interval"),
    legacy("peer-election-timeout"),
    legacy("retry-interval"),
    legacy("snapshot"),
    legacy("v"),
    legacy("vv"),
    legacy("test.coverprofile"),
    legacy("test.outputdir"),
];
