//! The settings the server runs with: checked, complete, in real types.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::gate;
use crate::go;
use crate::load::Surroundings;
use crate::log::{LogFormat, LogOutput, LogSettings};
use crate::machine;
use crate::problem::{Notice, Problem};
use crate::url::{self, Url};
use crate::written::{Value, Written};

/// Everything the operator can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    pub data_dir: PathBuf,
    /// `None`: inside the data directory.
    pub wal_dir: Option<PathBuf>,

    /// Never empty; plain text only.
    pub listen_client_urls: Vec<Url>,
    pub listen_peer_urls: Vec<Url>,
    /// Never empty.
    pub advertise_client_urls: Vec<Url>,
    /// Never empty.
    pub initial_advertise_peer_urls: Vec<Url>,

    /// As written; empty means this member alone. See [`Settings::bootstrap`].
    pub initial_cluster: String,
    pub initial_cluster_token: String,
    pub initial_cluster_state: InitialClusterState,

    /// At least 1 ms.
    pub heartbeat_interval: Duration,
    /// At least five heartbeats.
    pub election_timeout: Duration,
    pub pre_vote: bool,
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
    /// Revisions removed in one go; at least 1.
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,

    /// The shortest spacing of a client's pings; zero leaves the gRPC default (5 minutes) in force.
    pub grpc_keepalive_min_time: Duration,
    /// Zero: idle clients are not pinged.
    pub grpc_keepalive_interval: Duration,
    /// Zero: a client may take for ever to answer a ping.
    pub grpc_keepalive_timeout: Duration,
    pub socket_reuse_port: bool,

    /// At least 100 ms.
    pub watch_progress_notify_interval: Duration,
    pub lease_checkpoint: bool,
    /// Only with `lease_checkpoint`.
    pub lease_checkpoint_persist: bool,

    pub warning_apply_duration: Duration,
    pub warning_unary_request_duration: Duration,
    pub log: LogSettings,
}

/// Whether a member without data founds a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    New,
    Existing,
}

/// How a member without data begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    pub token: String,
    /// The founding members and their peer URLs, sorted. Only this one, for now.
    pub members: BTreeMap<String, Vec<Url>>,
}

const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
const QUOTA_RECOMMENDED_MAX_BYTES: u64 = 8 << 30;
const REQUEST_RECOMMENDED_MAX_BYTES: usize = 10 << 20;
/// Far more than clients open, few enough that one connection cannot fill the memory with their bookkeeping.
const STREAMS_MAX: u32 = 1 << 14;
const BATCH_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
const COMPACTION_BATCH_DEFAULT: usize = 1_000;
const PROGRESS_DEFAULT: Duration = Duration::from_secs(600);
const PROGRESS_MIN: Duration = Duration::from_millis(100);
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
            listen_peer_urls: written.urls("listen-peer-urls"),
            advertise_client_urls: advertised(written, "advertise-client-urls", "listen-client-urls", surroundings),
            initial_advertise_peer_urls: advertised(
                written,
                "initial-advertise-peer-urls",
                "listen-peer-urls",
                surroundings,
            ),
            initial_cluster: written.text("initial-cluster"),
            initial_cluster_token: written.text("initial-cluster-token"),
            initial_cluster_state: match written.text("initial-cluster-state").as_str() {
                "existing" => InitialClusterState::Existing,
                _ => InitialClusterState::New,
            },
            heartbeat_interval: Duration::from_millis(written.uint("heartbeat-interval")),
            election_timeout: Duration::from_millis(written.uint("election-timeout")),
            pre_vote: written.bool("pre-vote"),
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
            compaction_batch_limit: or_default(count(written, "compaction-batch-limit"), COMPACTION_BATCH_DEFAULT),
            compaction_sleep_interval: time(written, "compaction-sleep-interval"),
            grpc_keepalive_min_time: time(written, "grpc-keepalive-min-time"),
            grpc_keepalive_interval: time(written, "grpc-keepalive-interval"),
            grpc_keepalive_timeout: time(written, "grpc-keepalive-timeout"),
            socket_reuse_port: written.bool("socket-reuse-port"),
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
                colour,
            },
            name,
        };
        settings.note_surprises(&mut written.notices);
        settings
    }

    fn note_surprises(&self, notices: &mut Vec<Notice>) {
        let mut note = |setting: &str, what: String| {
            notices.push(Notice::Setting { setting: setting.to_string(), what });
        };
        if hears_others(&self.listen_client_urls) && only_reachable_here(&self.advertise_client_urls) {
            let urls = url::join(&self.advertise_client_urls);
            let what = format!(
                "clients on other machines cannot reach {urls}: those that ask for the member list will lose this \
                 member; advertise the address they reach it by"
            );
            note("--advertise-client-urls", what);
        }
        if self.quota_backend_bytes.is_some_and(|bytes| bytes > QUOTA_RECOMMENDED_MAX_BYTES) {
            note(
                "--quota-backend-bytes",
                "quota exceeds the maximum value etcd recommends (8 GiB): this server copes, but the way back to etcd \
                 may be barred, and snapshots take their time"
                    .to_string(),
            );
        }
        if self.max_request_bytes > REQUEST_RECOMMENDED_MAX_BYTES {
            note(
                "--max-request-bytes",
                "exceeded recommended request limit (10 MiB): every member must hold such a request in memory, and \
                 others wait behind it"
                    .to_string(),
            );
        }
    }

    /// How to begin without data. To be asked only then: with data, the flags it comes from mean nothing.
    ///
    /// # Errors
    /// If the flags contradict each other, or ask for more members than this one, or for joining others.
    ///
    /// Source: etcd-io/etcd `server/config/config.go` (`VerifyBootstrap`).
    pub fn bootstrap(&self) -> Result<Bootstrap, Problem> {
        let members = self.initial_members()?;
        let Some(own) = members.get(&self.name) else {
            let names: Vec<_> = members.keys().map(|name| go::quote(name)).collect();
            let error =
                format!("couldn't find local name {} in the initial cluster configuration", go::quote(&self.name));
            let hint = format!("--initial-cluster has {}; --name must be one of them", names.join(" and "));
            return Err(Problem::new(error).hint(hint));
        };
        self.own_urls_agree(own)?;
        let mut seen = BTreeSet::new();
        if !members.values().flatten().all(|url| seen.insert(url)) {
            let error = format!("initial cluster {} has duplicate url", show(&members));
            return Err(Problem::new(error).hint("give every member in --initial-cluster URLs of its own"));
        }
        if members.len() > 1 {
            let error =
                format!("--initial-cluster is refused: it names {} members ({})", members.len(), show(&members));
            return Err(Problem::new(error).hint("clusters of several members come later; leave it out"));
        }
        if self.initial_cluster_state == InitialClusterState::Existing {
            let error = "--initial-cluster-state=existing is refused: there is no data, and joining others comes later";
            return Err(
                Problem::new(error).hint("write new to found a cluster, or set --data-dir to where the data is")
            );
        }
        Ok(Bootstrap { token: self.initial_cluster_token.clone(), members })
    }

    fn initial_members(&self) -> Result<BTreeMap<String, Vec<Url>>, Problem> {
        let mut members = BTreeMap::<String, Vec<Url>>::new();
        if self.initial_cluster.is_empty() {
            members.insert(self.name.clone(), self.initial_advertise_peer_urls.clone());
        }
        for part in self.initial_cluster.split(',').filter(|part| !part.is_empty()) {
            let (name, text) = part.split_once('=').unwrap_or((part, ""));
            let url = Url::parse(text).map_err(|why| {
                Problem::new(format!("error setting up initial cluster: {why}"))
                    .hint("write --initial-cluster=name=http://host:port,...")
            })?;
            members.entry(name.to_string()).or_default().push(url);
        }
        members.values_mut().for_each(|urls| urls.sort());
        Ok(members)
    }

    /// Whether `own`, from the initial cluster, are the URLs this member advertises.
    fn own_urls_agree(&self, own: &[Url]) -> Result<(), Problem> {
        let advertised = &self.initial_advertise_peer_urls;
        let missing = |from: &[Url], urls: &[Url]| -> Vec<String> {
            urls.iter().filter(|url| !from.contains(url)).map(Url::to_string).collect()
        };
        let hint = "make --initial-advertise-peer-urls and this member's part of --initial-cluster equal";
        let unadvertised = missing(advertised, own);
        if !unadvertised.is_empty() {
            let named: Vec<_> = unadvertised.iter().map(|url| format!("{}={url}", self.name)).collect();
            let error = format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({})",
                named.join(","),
                url::join(advertised),
                difference(advertised, own)
            );
            return Err(Problem::new(error).hint(hint));
        }
        let unlisted = missing(own, advertised);
        if !unlisted.is_empty() {
            let all: Vec<_> = advertised.iter().map(|url| format!("{}={url}", self.name)).collect();
            let error = format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                unlisted.join(","),
                all.join(",")
            );
            return Err(Problem::new(error).hint(hint));
        }
        Ok(())
    }
}

/// How two sorted lists differ, in etcd's words.
fn difference(advertised: &[Url], own: &[Url]) -> String {
    let quoted = |urls: &[Url]| urls.iter().map(|url| go::quote(&url.to_string())).collect::<Vec<_>>().join(" ");
    if advertised.len() != own.len() {
        return format!("len([{}]) != len([{}])", quoted(advertised), quoted(own));
    }
    let pair = advertised.iter().zip(own).find(|(a, b)| a != b);
    pair.map(|(a, b)| format!("resolved urls: {} != {}", go::quote(&a.to_string()), go::quote(&b.to_string())))
        .unwrap_or_default()
}

fn show(members: &BTreeMap<String, Vec<Url>>) -> String {
    let parts = members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    parts.collect::<Vec<_>>().join(",")
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
    urls.iter().filter_map(Url::host).all(|host| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
    })
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
