//! What the server needs to know to run one member. All of it is checked by whoever builds it.

use std::path::PathBuf;
use std::time::Duration;

use types::InitialCluster;

/// The settings of one member.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    pub data_dir: PathBuf,
    /// Where the log lies if not inside `data_dir`.
    pub wal_dir: Option<PathBuf>,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// The members the cluster starts with, or has, if this one is to join it. Counts only without data.
    pub initial_cluster: InitialCluster,
    pub initial_state: InitialState,
    /// Make the data that of a cluster of one.
    pub force_new_cluster: bool,
    /// Refuse membership changes that would cost the quorum.
    pub strict_reconfig_check: bool,
    /// The same on all members, or they disagree on what the log does.
    pub learners_max: usize,
    pub corruption_checks: CorruptionChecks,
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub pre_vote: bool,
    /// The first election after a start need not wait for a whole timeout.
    pub initial_election_tick_advance: bool,
    pub peer_read_timeout: Duration,
    pub peer_write_timeout: Duration,
    pub limits: Limits,
    /// Bytes of current values kept in memory.
    pub value_budget_bytes: usize,
    /// Threads that read the rows of the state at the start; see `mvcc::StoreOptions`.
    pub restore_threads: usize,
    /// Entries kept in the log behind the applied index, for members that fall behind.
    pub catchup_entries: u64,
    /// Longest time between two commits of the backend.
    pub backend_batch_interval: Duration,
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,
    /// How much history to keep; `None`: all of it, unless a client has it compacted.
    pub auto_compaction: Option<Retention>,
    /// Database size past which writes are refused; `None` for no limit.
    pub quota_bytes: Option<u64>,
    pub lease_checkpoints: bool,
    /// Store them too, so that they survive a restart.
    pub lease_checkpoints_persist: bool,
    /// Applying a batch for longer is logged.
    pub warning_apply_duration: Duration,
    /// A request that takes longer is logged.
    pub warning_request_duration: Duration,
    pub wal_segment_size_bytes: u64,
    /// What there is of etcd's switches, for metrics.
    pub feature_gates: Vec<FeatureGate>,
}

/// One of etcd's switches for features in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGate {
    pub name: &'static str,
    /// `ALPHA` or `BETA`; empty once it is neither.
    pub stage: &'static str,
    pub enabled: bool,
}

/// Whether a member without data founds a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    New,
    Existing,
}

/// How much history to keep when compacting without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// At least what is younger than this; not zero.
    Period(Duration),
    /// The last so many revisions; at least 1.
    Revisions(i64),
}

/// When members compare what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Before this member serves anybody.
    pub initial: bool,
    /// The leader compares all data this often.
    pub interval: Option<Duration>,
    /// The leader compares the hashes of compactions this often.
    pub compaction_interval: Option<Duration>,
}

/// Limits that requests meet.
#[derive(Clone, Debug)]
pub struct Limits {
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    pub max_concurrent_streams: u32,
    pub progress_notify_interval: Duration,
    /// How long a proposal or a linearizable read may take.
    pub request_timeout: Duration,
    pub election_timeout: Duration,
}

impl Settings {
    /// Defaults as etcd has them, for a member whose data lies in `data_dir`.
    pub fn new(data_dir: PathBuf) -> Settings {
        let election_timeout = Duration::from_millis(1000);
        Settings {
            name: "default".into(),
            data_dir,
            wal_dir: None,
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec!["http://localhost:2379".into()],
            initial_cluster: InitialCluster::new(
                "etcd-cluster",
                [("default".to_owned(), "http://localhost:2380".to_owned())],
            ),
            initial_state: InitialState::New,
            force_new_cluster: false,
            strict_reconfig_check: true,
            learners_max: 1,
            corruption_checks: CorruptionChecks::default(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout,
            pre_vote: true,
            initial_election_tick_advance: true,
            peer_read_timeout: Duration::from_secs(5),
            peer_write_timeout: Duration::from_secs(5),
            limits: Limits {
                max_request_bytes: 1_572_864,
                max_txn_ops: 128,
                max_concurrent_streams: u32::MAX,
                progress_notify_interval: Duration::from_secs(600),
                request_timeout: Duration::from_secs(5) + 2 * election_timeout,
                election_timeout,
            },
            value_budget_bytes: 1 << 30,
            restore_threads: 1,
            catchup_entries: 5000,
            backend_batch_interval: Duration::from_millis(100),
            compaction_batch_limit: 1000,
            compaction_sleep_interval: Duration::from_millis(10),
            auto_compaction: None,
            quota_bytes: Some(2 << 30),
            lease_checkpoints: false,
            lease_checkpoints_persist: false,
            warning_apply_duration: Duration::from_millis(100),
            warning_request_duration: Duration::from_millis(300),
            wal_segment_size_bytes: 64 << 20,
            feature_gates: Vec::new(),
        }
    }
}
