//! The settings the server runs with: checked, complete, in real types.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use types::{InitialCluster, go_quote};

use crate::gate;
use crate::go;
use crate::help;
use crate::load::Surroundings;
use crate::log::{LogFormat, LogOutput, LogSettings};
use crate::machine;
use crate::problem::{Notice, Problem};
use crate::url::{self, Url};
use crate::written::{Given, Value, Written};

/// Everything the operator can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    pub data_dir: PathBuf,
    /// `None`: inside the data directory.
    pub wal_dir: Option<PathBuf>,

    /// Never empty; plain text only.
    pub listen_client_urls: Vec<Url>,
    /// If there are any, `listen_client_urls` serve gRPC alone; plain text only.
    pub listen_client_http_urls: Vec<Url>,
    /// Plain text only.
    pub listen_metrics_urls: Vec<Url>,
    /// Never empty; plain text only.
    pub listen_peer_urls: Vec<Url>,
    /// Never empty.
    pub advertise_client_urls: Vec<Url>,
    /// Never empty.
    pub initial_advertise_peer_urls: Vec<Url>,

    /// As written; empty means this member alone. See [`Settings::initial_cluster`].
    initial_cluster: String,
    /// What that is called where it was found, and its text unless that may be a secret; `None` if nowhere.
    initial_cluster_found: Option<(String, Option<String>)>,
    pub initial_cluster_token: String,
    pub initial_cluster_state: InitialClusterState,
    /// Name service lists the first members; [`Settings::initial_cluster`] then is not what counts.
    pub discovery_srv: Option<DiscoverySrv>,
    /// They find each other through another cluster; [`Settings::initial_cluster`] then is not what counts.
    pub discovery_registry: Option<DiscoveryRegistry>,
    /// The data is to become that of a cluster of one.
    pub force_new_cluster: bool,
    /// Membership changes that would cost the quorum are refused.
    pub strict_reconfig_check: bool,
    /// The same on all members, or they disagree on what the log does.
    pub max_learners: usize,
    pub corruption_checks: CorruptionChecks,

    /// At least 1 ms.
    pub heartbeat_interval: Duration,
    /// At least five heartbeats.
    pub election_timeout: Duration,
    pub pre_vote: bool,
    /// The first election after a start need not wait for a whole timeout.
    pub initial_election_tick_advance: bool,
    /// At least 5 s.
    pub peer_read_timeout: Duration,
    /// At least 5 s.
    pub peer_write_timeout: Duration,
    /// Entries left in the log when it is cut.
    pub snapshot_catchup_entries: u64,

    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    /// For one client connection; from 1 to 16,384.
    pub max_concurrent_streams: u32,

    /// `None`: no limit.
    pub quota_backend_bytes: Option<u64>,
    pub backend_batch_interval: Duration,
    /// How much memory may hold current values.
    pub value_memory_budget_bytes: usize,
    /// From 64 KiB to 1 GiB; what the largest request needs is not in it.
    pub log_segment_bytes: u64,
    /// Revisions removed in one go; at least 1.
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,
    /// `None`: nothing is compacted unless a client asks for it.
    pub auto_compaction: Option<Retention>,

    /// The shortest spacing of a client's pings; zero leaves the gRPC default (5 minutes) in force.
    pub grpc_keepalive_min_time: Duration,
    /// Zero: idle clients are not pinged.
    pub grpc_keepalive_interval: Duration,
    /// Zero: a client may take for ever to answer a ping.
    pub grpc_keepalive_timeout: Duration,
    /// The web origins that may call over HTTP/1.1; `*` stands for all.
    pub cors: Vec<String>,
    /// Whether the API's JSON form is served.
    pub enable_grpc_gateway: bool,
    pub socket_reuse_port: bool,
    /// Hosts that plain HTTP requests may name; none, and `*`, stand for all.
    pub host_whitelist: Vec<String>,
    /// gRPC calls are timed.
    pub extensive_metrics: bool,
    pub feature_gates: Vec<FeatureGate>,

    /// At least 100 ms.
    pub watch_progress_notify_interval: Duration,
    pub lease_checkpoint: bool,
    /// Only with `lease_checkpoint`.
    pub lease_checkpoint_persist: bool,

    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    pub log: LogSettings,
}

/// What one of etcd's feature gates is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGate {
    pub name: &'static str,
    /// `ALPHA` or `BETA`.
    pub stage: &'static str,
    pub enabled: bool,
}

/// Whether a member without data founds a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    New,
    Existing,
}

/// Which SRV records list the first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverySrv {
    pub domain: String,
    /// Tells several clusters of one domain apart; may be empty.
    pub service_name: String,
}

/// The cluster through which the first members find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryRegistry {
    /// `host:port`; never empty.
    pub endpoints: Vec<String>,
    /// Names the new cluster.
    pub token: String,
    pub user: Option<Credentials>,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
}

/// A user's name and password. Not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// How much history to keep when compacting without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Not zero.
    Period(Duration),
    /// At least 1.
    Revisions(i64),
}

impl Retention {
    /// Reads the two flags of automatic compaction; `None` if it is off.
    ///
    /// A number without a unit is hours, or revisions. A duration where revisions are counted is its nanoseconds, as
    /// with etcd.
    ///
    /// # Errors
    /// What is wrong with the retention, in etcd's words.
    ///
    /// Source: etcd-io/etcd `server/embed/etcd.go` (`parseCompactionRetention`).
    pub(crate) fn read(written: &Written) -> Result<Option<Retention>, String> {
        let text = written.text("auto-compaction-retention");
        let counts_revisions = written.text("auto-compaction-mode") == "revision";
        let number = match retention_number(&text) {
            Some(number) if counts_revisions => number,
            Some(hours) => hours.checked_mul(NANOS_PER_HOUR).ok_or_else(|| {
                format!("error parsing CompactionRetention: time: invalid duration {}", go_quote(&text))
            })?,
            None if text.is_empty() => 0,
            None => {
                let parsed = go::parse_duration(&text);
                parsed.map_err(|why| format!("error parsing CompactionRetention: {why}"))?
            }
        };
        match u64::try_from(number) {
            Err(_) => Err(format!("--auto-compaction-retention must not be negative (set to {text})")),
            Ok(0) => Ok(None),
            Ok(_) if counts_revisions => Ok(Some(Retention::Revisions(number))),
            Ok(nanos) => Ok(Some(Retention::Period(Duration::from_nanos(nanos)))),
        }
    }
}

/// The retention as a number without a unit, as etcd takes it: decimal digits, maybe after a plus.
pub(crate) fn retention_number(text: &str) -> Option<i64> {
    let is_number = !text.starts_with('-');
    is_number.then(|| text.parse().ok()).flatten()
}

/// When members compare what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptionChecks {
    /// Before this member serves anybody.
    pub initial: bool,
    /// The leader compares all data this often.
    pub interval: Option<Duration>,
    /// The leader compares the hashes of compactions this often.
    pub compaction_interval: Option<Duration>,
}

const NANOS_PER_HOUR: i64 = 3_600_000_000_000;

const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
const QUOTA_RECOMMENDED_MAX_BYTES: u64 = 8 << 30;
const REQUEST_RECOMMENDED_MAX_BYTES: usize = 10 << 20;
/// Far more than clients open, few enough that one connection cannot fill the memory with their bookkeeping.
const STREAMS_MAX: u32 = 1 << 14;
const BATCH_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
const COMPACTION_BATCH_DEFAULT: usize = 1_000;
const PROGRESS_DEFAULT: Duration = Duration::from_secs(600);
const PROGRESS_MIN: Duration = Duration::from_millis(100);
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
const UNARY_WARNING_DEFAULT: Duration = Duration::from_millis(300);
/// For values, where the machine does not tell how much memory it has.
const VALUE_MEMORY_FALLBACK_BYTES: u64 = 256 << 20;

impl Settings {
    /// Makes settings of what passed the checks; adds notices on what may surprise.
    pub(crate) fn build(written: &mut Written, colour: bool, surroundings: &Surroundings<'_>) -> Settings {
        let name = written.text("name");
        let data_dir = match written.text("data-dir") {
            dir if dir.is_empty() => PathBuf::from(format!("{name}.quorate")),
            dir => PathBuf::from(dir),
        };
        let settings = Settings {
            data_dir,
            wal_dir: Some(written.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from),
            listen_client_urls: written.urls("listen-client-urls"),
            listen_client_http_urls: written.urls("listen-client-http-urls"),
            listen_metrics_urls: written.urls("listen-metrics-urls"),
            listen_peer_urls: written.urls("listen-peer-urls"),
            advertise_client_urls: advertised(written, "advertise-client-urls", "listen-client-urls", surroundings),
            initial_advertise_peer_urls: advertised(
                written,
                "initial-advertise-peer-urls",
                "listen-peer-urls",
                surroundings,
            ),
            initial_cluster: written.text("initial-cluster"),
            initial_cluster_found: written
                .given("initial-cluster")
                .filter(|given| !given.raw.is_empty())
                .map(|given| (given.setting(), given.shown().map(String::from))),
            initial_cluster_token: written.text("initial-cluster-token"),
            initial_cluster_state: match written.text("initial-cluster-state").as_str() {
                "existing" => InitialClusterState::Existing,
                _ => InitialClusterState::New,
            },
            discovery_srv: Some(written.text("discovery-srv"))
                .filter(|domain| !domain.is_empty())
                .map(|domain| DiscoverySrv { domain, service_name: written.text("discovery-srv-name") }),
            discovery_registry: registry(written),
            force_new_cluster: written.bool("force-new-cluster"),
            strict_reconfig_check: written.bool("strict-reconfig-check"),
            max_learners: count(written, "max-learners"),
            corruption_checks: CorruptionChecks {
                initial: gate_on(written, "InitialCorruptCheck"),
                interval: Some(time(written, "corrupt-check-time")).filter(|time| !time.is_zero()),
                compaction_interval: gate_on(written, "CompactHashCheck")
                    .then(|| time(written, "compact-hash-check-time")),
            },
            heartbeat_interval: Duration::from_millis(written.uint("heartbeat-interval")),
            election_timeout: Duration::from_millis(written.uint("election-timeout")),
            pre_vote: written.bool("pre-vote"),
            initial_election_tick_advance: written.bool("initial-election-tick-advance"),
            peer_read_timeout: peer_timeout(written, "raft-read-timeout"),
            peer_write_timeout: peer_timeout(written, "raft-write-timeout"),
            snapshot_catchup_entries: written.uint("snapshot-catchup-entries"),
            max_txn_ops: size(written.uint("max-txn-ops")),
            max_request_bytes: size(written.uint("max-request-bytes")),
            max_concurrent_streams: streams(written),
            quota_backend_bytes: match written.int("quota-backend-bytes") {
                0 => Some(QUOTA_DEFAULT_BYTES),
                bytes => u64::try_from(bytes).ok(),
            },
            backend_batch_interval: or_default(time(written, "backend-batch-interval"), BATCH_INTERVAL_DEFAULT),
            value_memory_budget_bytes: value_memory(written, surroundings),
            log_segment_bytes: written.uint("quorate-log-segment-bytes"),
            compaction_batch_limit: or_default(count(written, "compaction-batch-limit"), COMPACTION_BATCH_DEFAULT),
            compaction_sleep_interval: time(written, "compaction-sleep-interval"),
            auto_compaction: Retention::read(written).unwrap_or_default(),
            grpc_keepalive_min_time: time(written, "grpc-keepalive-min-time"),
            grpc_keepalive_interval: time(written, "grpc-keepalive-interval"),
            grpc_keepalive_timeout: time(written, "grpc-keepalive-timeout"),
            cors: written.text("cors").split(',').map(|origin| origin.trim().to_string()).collect(),
            enable_grpc_gateway: written.bool("enable-grpc-gateway"),
            socket_reuse_port: written.bool("socket-reuse-port"),
            host_whitelist: written.list("host-whitelist"),
            extensive_metrics: written.text("metrics") == "extensive",
            feature_gates: feature_gates(written),
            watch_progress_notify_interval: or_default(
                time(written, "watch-progress-notify-interval"),
                PROGRESS_DEFAULT,
            )
            .max(PROGRESS_MIN),
            lease_checkpoint: gate_on(written, "LeaseCheckpoint"),
            lease_checkpoint_persist: gate_on(written, "LeaseCheckpointPersist"),
            warning_apply_duration: time(written, "warning-apply-duration"),
            warning_unary_request_duration: or_default(
                time(written, "warning-unary-request-duration"),
                UNARY_WARNING_DEFAULT,
            ),
            log: LogSettings {
                level: written.level("log-level"),
                format: match written.text("log-format").as_str() {
                    "json" => Some(LogFormat::Json),
                    "console" => Some(LogFormat::Console),
                    _ => None,
                },
                outputs: outputs(written),
                outputs_setting: called(written, "log-outputs"),
                colour,
            },
            name,
        };
        settings.note_surprises(written);
        let memory = machine::memory_bytes(surroundings.read_file);
        if let (Some(given), Some(quota), Some(memory)) =
            (written.given("quota-backend-bytes"), settings.quota_backend_bytes, memory)
            && quota > memory
        {
            let what = format!(
                "{quota} bytes are more than the {memory} bytes of memory: what does not fit into \
                 --quorate-value-memory-bytes is read from disk, which is slower"
            );
            let remark = Notice::Remark { setting: given.setting(), what };
            written.notices.push(remark);
        }
        settings
    }

    fn note_surprises(&self, written: &mut Written) {
        let found = |name: &str| called(written, name);
        let mut notices = Vec::new();
        if hears_others(&self.listen_client_urls) && only_reachable_here(&self.advertise_client_urls) {
            let urls = url::join(&self.advertise_client_urls);
            let what = format!(
                "clients on other machines cannot reach {urls}: those that ask for the member list will lose this \
                 member; advertise the address they reach it by"
            );
            let setting = found("advertise-client-urls");
            // Whoever has one member with such an address has clients that do not ask.
            notices.push(match self.may_be_alone() {
                true => Notice::Remark { setting, what },
                false => Notice::Setting { setting, what },
            });
        }
        let mut note = |name: &str, what: String| notices.push(Notice::Setting { setting: found(name), what });
        if self.quota_backend_bytes.is_some_and(|bytes| bytes > QUOTA_RECOMMENDED_MAX_BYTES) {
            note(
                "quota-backend-bytes",
                "quota exceeds the maximum value etcd recommends (8 GiB): this server copes, but the way back to etcd \
                 may be barred, and snapshots take their time"
                    .to_string(),
            );
        }
        if self.max_request_bytes > REQUEST_RECOMMENDED_MAX_BYTES {
            note(
                "max-request-bytes",
                "exceeded recommended request limit (10 MiB): every member must hold such a request in memory, and \
                 others wait behind it"
                    .to_string(),
            );
        }
        written.notices.extend(notices);
    }

    /// Whether the flags name no other member.
    fn may_be_alone(&self) -> bool {
        let names = self.initial_cluster.split(',').filter_map(|part| Some(part.split_once('=')?.0));
        let is_found = self.discovery_srv.is_some() || self.discovery_registry.is_some();
        !is_found && names.collect::<BTreeSet<_>>().len() < 2
    }

    /// The members the cluster starts with, or that the cluster to be joined has, as the flags list them; with
    /// [`Settings::discovery_srv`], another list counts. To be asked only without data: with data, these flags mean nothing.
    ///
    /// Whether this member's part of it is what it advertises may need name resolution, and is left to the caller.
    ///
    /// # Errors
    /// If the flags contradict each other.
    pub fn initial_cluster(&self) -> Result<InitialCluster, Problem> {
        let mut pairs = Vec::new();
        if self.initial_cluster.is_empty() {
            pairs.extend(self.initial_advertise_peer_urls.iter().map(|url| (self.name.clone(), url.to_string())));
        }
        for part in self.initial_cluster.split(',').filter(|part| !part.is_empty()) {
            let (name, text) = part.split_once('=').unwrap_or((part, ""));
            let url = Url::parse(text).map_err(|why| {
                let error = format!("error setting up initial cluster: {why}");
                self.cluster_problem(error, "write --initial-cluster=name=http://host:port,...")
            })?;
            pairs.push((name.to_string(), url.to_string()));
        }
        let cluster = InitialCluster::new(self.initial_cluster_token.clone(), pairs);
        self.check_initial_cluster(&cluster)?;
        Ok(cluster)
    }

    /// Whether an initial cluster, wherever it was found, can be this member's.
    ///
    /// # Errors
    /// If it cannot.
    ///
    /// Source: etcd-io/etcd `server/config/config.go` (`VerifyBootstrap`, `VerifyJoinExisting`).
    pub fn check_initial_cluster(&self, cluster: &InitialCluster) -> Result<(), Problem> {
        if self.discovery_registry.is_some() && self.initial_cluster_state == InitialClusterState::Existing {
            let error = "discovery URL should not be set when joining existing initial cluster";
            return Err(self.cluster_problem(error, "write new, or list the members in --initial-cluster"));
        }
        if cluster.member(&self.name).is_none() {
            let names: Vec<_> = cluster.members().iter().map(|member| go_quote(&member.name)).collect();
            let near = help::nearest(&self.name, cluster.members().iter().map(|member| member.name.as_str()));
            let near = near.map(|near| format!("; did you mean {}?", go_quote(near))).unwrap_or_default();
            let error =
                format!("couldn't find local name {} in the initial cluster configuration", go_quote(&self.name));
            let hint = format!("--initial-cluster has {}; --name must be one of them{near}", names.join(" and "));
            return Err(self.cluster_problem(error, &hint));
        }
        if cluster.has_duplicate_url() {
            let error = format!("initial cluster {cluster} has duplicate url");
            return Err(self.cluster_problem(error, "give every member in --initial-cluster URLs of its own"));
        }
        let mut urls = cluster.members().iter().flat_map(|member| &member.peer_urls);
        let tls = urls.find(|url| url.starts_with("https:") || url.starts_with("unixs:"));
        // What a lone member advertises may be where something else ends TLS for it.
        if let Some(url) = tls.filter(|_| cluster.members().len() > 1) {
            let error = format!("initial cluster {cluster} is refused: TLS between members comes later ({url})");
            return Err(self.cluster_problem(error, "write http:// instead of https://, unix:// instead of unixs://"));
        }
        Ok(())
    }

    /// What is wrong with the initial cluster, and what to write instead.
    pub fn cluster_problem(&self, error: impl Into<String>, hint: &str) -> Problem {
        let problem = Problem::new(error);
        let problem = match &self.initial_cluster_found {
            Some((setting, Some(value))) => problem.found(setting.clone()).value(value),
            Some((setting, None)) => problem.found(setting.clone()),
            None => problem,
        };
        problem.hint(hint)
    }

    /// What may surprise whoever founds or joins `cluster` with these settings.
    pub fn notes_on(&self, cluster: &InitialCluster) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut note = |setting: &str, what: String| {
            notices.push(Notice::Setting { setting: setting.to_string(), what });
        };
        let count = cluster.members().len();
        if count > 1 && count.is_multiple_of(2) {
            let (lost, fewer) = ((count - 1) / 2, count - 1);
            let what = format!(
                "{count} members go on while {lost} of them are lost, which {fewer} would do too: take an odd number"
            );
            note("--initial-cluster", what);
        }
        let hosts = |urls: &[String]| -> BTreeSet<String> {
            let parsed = urls.iter().filter_map(|url| Url::parse(url).ok());
            parsed.filter_map(|url| url.host().map(String::from)).collect()
        };
        for member in cluster.members() {
            let hosts = hosts(&member.peer_urls);
            if hosts.len() > 1 {
                let hosts = Vec::from_iter(hosts).join(" and ");
                let what = format!(
                    "{} stands several times, at {hosts}: that is one member with several addresses; two members need \
                     two names",
                    go_quote(&member.name)
                );
                note("--initial-cluster", what);
            }
        }
        let others = cluster.members().iter().filter(|member| member.name != self.name);
        let are_elsewhere = others.flat_map(|member| hosts(&member.peer_urls)).any(|host| !is_this_machine(&host));
        if are_elsewhere && only_reachable_here(&self.initial_advertise_peer_urls) {
            let urls = url::join(&self.initial_advertise_peer_urls);
            let what = format!("members on other machines cannot reach {urls}; advertise the address they reach it by");
            note("--initial-advertise-peer-urls", what);
        }
        // Of a listener that others can reach, this was said before.
        if are_elsewhere && only_reachable_here(&self.advertise_client_urls) && !hears_others(&self.listen_client_urls)
        {
            let urls = url::join(&self.advertise_client_urls);
            let what = format!(
                "clients on other machines cannot reach {urls}: those that ask for the member list will lose this member"
            );
            note("--advertise-client-urls", what);
        }
        notices
    }
}

/// The advertised URLs; where they were left at their default and the listener is on all addresses, that of the
/// interface with the default route.
fn advertised(written: &Written, name: &str, listen: &str, surroundings: &Surroundings<'_>) -> Vec<Url> {
    let mut urls = written.urls(name);
    let default = Url::http("localhost", if name == "advertise-client-urls" { 2379 } else { 2380 });
    let listener = written.urls(listen).first().and_then(|url| Some((url.host()?.to_string(), url.port()?)));
    if let ([only], Some((host, port))) = (urls.as_mut_slice(), listener)
        && *only == default
        && host == "0.0.0.0"
        && let Some(address) = (surroundings.default_host)()
    {
        *only = Url::http(&address.to_string(), port);
    }
    urls
}

/// Whether a listener can be reached from other machines.
fn hears_others(urls: &[Url]) -> bool {
    urls.iter().filter_map(Url::host).any(|host| host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()))
}

/// Whether no URL leads here from another machine.
fn only_reachable_here(urls: &[Url]) -> bool {
    urls.iter().filter_map(Url::host).all(is_this_machine)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

fn outputs(written: &Written) -> Vec<LogOutput> {
    let mut outputs = Vec::new();
    for text in written.list("log-outputs") {
        let output = match text.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    outputs
}

fn value_memory(written: &Written, surroundings: &Surroundings<'_>) -> usize {
    size(match written.uint("quorate-value-memory-bytes") {
        0 => machine::memory_bytes(surroundings.read_file).map_or(VALUE_MEMORY_FALLBACK_BYTES, |bytes| bytes / 4),
        bytes => bytes,
    })
}

/// Zero is no limit in etcd, and so is its default.
fn streams(written: &mut Written) -> u32 {
    let asked = u32::try_from(written.uint("max-concurrent-streams")).unwrap_or(u32::MAX);
    if (STREAMS_MAX + 1..u32::MAX).contains(&asked) {
        let setting = written.given("max-concurrent-streams").map(ToString::to_string).unwrap_or_default();
        let what = format!("{asked} count as {STREAMS_MAX}: no connection may hold more");
        written.notices.push(Notice::Setting { setting, what });
    }
    if asked == 0 { STREAMS_MAX } else { asked.min(STREAMS_MAX) }
}

fn registry(written: &Written) -> Option<DiscoveryRegistry> {
    let endpoints = written.list("discovery-endpoints");
    let (user, password) = (written.text("discovery-user"), written.text("discovery-password"));
    let (name, password) = match user.split_once(':') {
        Some((name, password_too)) if password.is_empty() => (name.to_string(), password_too.to_string()),
        _ => (user, password),
    };
    (!endpoints.is_empty()).then(|| DiscoveryRegistry {
        endpoints: endpoints.iter().map(|endpoint| plain_endpoint(endpoint).to_string()).collect(),
        token: written.text("discovery-token"),
        user: (!name.is_empty()).then_some(Credentials { name, password }),
        dial_timeout: time(written, "discovery-dial-timeout"),
        request_timeout: time(written, "discovery-request-timeout"),
        keepalive_time: time(written, "discovery-keepalive-time"),
        keepalive_timeout: time(written, "discovery-keepalive-timeout"),
    })
}

/// `host:port` of an endpoint.
pub(crate) fn plain_endpoint(endpoint: &str) -> &str {
    endpoint.strip_prefix("http://").unwrap_or(endpoint)
}

/// etcd takes no shorter ones: members heartbeat on quiet connections nearly as rarely.
fn peer_timeout(written: &mut Written, name: &str) -> Duration {
    let asked = time(written, name);
    if asked < PEER_TIMEOUT_MIN {
        let setting = written.given(name).map(ToString::to_string).unwrap_or_default();
        written.notices.push(Notice::Setting { setting, what: "less than 5s counts as 5s".to_string() });
    }
    asked.max(PEER_TIMEOUT_MIN)
}

fn feature_gates(written: &Written) -> Vec<FeatureGate> {
    let of_one = |gate: &'static gate::Gate| {
        let stage = match gate.stage {
            gate::Stage::Alpha => "ALPHA",
            gate::Stage::Beta => "BETA",
        };
        FeatureGate { name: gate.name, stage, enabled: gate_on(written, gate.name) }
    };
    gate::GATES.iter().map(of_one).collect()
}

/// How the operator would recognise the flag: by what gave it, or by its own name.
fn called(written: &Written, name: &str) -> String {
    written.given(name).map_or_else(|| format!("--{name}"), Given::setting)
}

fn gate_on(written: &Written, name: &str) -> bool {
    let old = written.old_gates().filter_map(|(gate, given)| match given.value {
        Value::Bool(on) => Some((gate.to_string(), on)),
        _ => None,
    });
    let pairs: Vec<_> = old.chain(written.gates("feature-gates")).collect();
    let gate = gate::find(name).expect("a gate of the table");
    gate::setting(gate, &pairs).map_or(gate.stage.default(), |(_, on)| on)
}

/// Zero stands for the default.
fn or_default<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

fn time(written: &Written, name: &str) -> Duration {
    Duration::from_nanos(u64::try_from(written.duration(name)).unwrap_or(0))
}

fn count(written: &Written, name: &str) -> usize {
    usize::try_from(written.int(name)).unwrap_or(0)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
