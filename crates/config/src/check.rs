//! What must hold between and inside the values, with etcd's texts; then what becomes of each flag here.
//!
//! Each check adds at most one problem, and none for a flag that has one already.

use std::ops::RangeInclusive;

use std::net::IpAddr;

use types::go_quote;

use crate::flag::{Flag, Status};
use crate::gate::{self, GATES};
use crate::go;
use crate::problem::{Notice, Problem};
use crate::settings::{Retention, plain_endpoint, retention_number};
use crate::table;
use crate::url;
use crate::written::{Origin, Value, Written};
use crate::yaml::{self, Content, Document, Node};

/// Bounds on what a member will hold in one piece; etcd has none.
pub(crate) const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Smaller files of the log would be mostly overhead, larger ones mostly waiting for their zeros.
const LOG_SEGMENT_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Who writes more of them without a unit may mean revisions: 30 days.
const HOURS_LIKELY: i64 = 720;

const ELECTION_MS_MAX: u64 = 50_000;

/// Holds everything that was written against the rules, and adds problems and notices to it.
///
/// Source: etcd-io/etcd `server/embed/config.go` (`Validate`) and `embed/etcd.go`, in their order.
pub(crate) fn check(written: &mut Written) {
    logging(written);
    listeners(written);
    advertised(written);
    bootstrap_source(written);
    raft_times(written);
    advertise_beside_listen(written);
    compaction(written);
    tracing(written);
    gates(written);
    hash_check_time(written);
    tls(written);
    auth(written);
    version_2(written);
    bounds(written);
    statuses(written);
}

impl Written {
    /// Adds a problem with a flag, telling where its value came from and what to write instead.
    fn wrong(&mut self, name: &'static str, error: impl Into<String>, hint: &str) {
        let problem = match self.given(name) {
            Some(given) => Problem::new(error).setting(given),
            None => Problem::new(error).found(format!("--{name}")),
        };
        self.fault(name, problem.hint(hint));
    }
}

fn logging(written: &mut Written) {
    let logger = written.text("logger");
    if logger != "zap" {
        written.wrong("logger", format!("unknown logger option {}", go_quote(&logger)), "leave it out, or write zap");
    }
    let format = written.text("log-format");
    if !matches!(format.as_str(), "" | "json" | "console") {
        let error = format!("unknown log format: {format}, supported values json, console");
        written.wrong("log-format", error, "write json or console");
    }
    let outputs = written.list("log-outputs");
    if outputs.is_empty() {
        written.wrong("log-outputs", "--log-outputs names no output", "write stderr, stdout or a path");
    } else if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        let error = "multi logoutput for \"default\" is not supported yet";
        written.wrong("log-outputs", error, "write stderr instead of default beside other outputs");
    } else if outputs.iter().any(|output| output == "systemd/journal") {
        let error = "--log-outputs=systemd/journal is refused: writing to the journal itself comes later";
        written.wrong("log-outputs", error, "write default: systemd takes standard error to its journal");
    }
    if written.sound(&["enable-log-rotation"]) && written.bool("enable-log-rotation") {
        let files = outputs.iter().filter(|output| !matches!(output.as_str(), "default" | "stderr" | "stdout")).count();
        let rules = yaml::parse(&written.text("log-rotation-config-json"));
        if outputs.len() != 1 || files != 1 {
            let error = "--log-outputs requires a single file path when --log-rotate-config-json is defined";
            written.wrong("enable-log-rotation", error, "leave it out: turning over log files comes later");
        } else if !matches!(rules, Ok(Document { root: Some(Node { content: Content::Map(_), .. }), unread: None })) {
            let error = "improperly formatted log rotation config: not a JSON object";
            written.wrong("log-rotation-config-json", error, "leave it out: turning over log files comes later");
        }
    }
}

fn listeners(written: &mut Written) {
    for name in ["listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"] {
        if !written.sound(&[name]) {
            continue;
        }
        let urls = written.urls(name);
        let unbindable = urls.iter().find(|url| url.host().is_some_and(|host| !can_bind(host)));
        if let Some(url) = unbindable {
            let error = format!("expected IP in URL for binding ({url})");
            written.wrong(name, error, &format!("write an address of this machine in --{name}, or 0.0.0.0 for all"));
        } else if let Some(url) = urls.iter().find(|url| url.is_tls()) {
            let (what, cert, key) = match name {
                "listen-peer-urls" => ("peer", "peer-cert-file", "peer-key-file"),
                _ => ("client", "cert-file", "key-file"),
            };
            let has_cert = written.given(cert).is_some() && written.given(key).is_some();
            let automatic = written.bool(if what == "peer" { "peer-auto-tls" } else { "auto-tls" });
            let error = match has_cert || automatic {
                true => format!("--{name} is refused: TLS comes later ({url})"),
                false => {
                    format!("TLS key/cert (--{cert}, --{key}) must be provided for {what} url {url} with HTTPS scheme")
                }
            };
            written.wrong(
                name,
                error,
                "TLS comes later: write http:// instead of https://, unix:// instead of unixs://",
            );
        }
    }
    for (name, usual) in
        [("listen-peer-urls", "http://localhost:2380"), ("listen-client-urls", "http://localhost:2379")]
    {
        if written.sound(&[name]) && written.given(name).is_some() && written.urls(name).is_empty() {
            written.wrong(name, format!("--{name} names no URL"), &format!("write {usual}"));
        }
    }
    if written.sound(&["listen-client-urls", "listen-client-http-urls"]) {
        let grpc = written.urls("listen-client-urls");
        if let Some(url) = written.urls("listen-client-http-urls").iter().find(|url| grpc.contains(url)) {
            let error =
                format!("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}");
            written.wrong(
                "listen-client-http-urls",
                error,
                "write another port, or leave it out: one port serves both",
            );
        }
    }
}

fn can_bind(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

fn advertised(written: &mut Written) {
    for (name, form) in [
        ("initial-advertise-peer-urls", "\"host:port\""),
        ("advertise-client-urls", "in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\""),
    ] {
        if !written.sound(&[name]) {
            continue;
        }
        let urls = written.urls(name);
        if let Some(url) = urls.iter().find(|url| url.host() == Some("")) {
            let all = go_quote(url::join(&urls));
            let error = format!("--{name} {all} must be {form} (unexpected empty host ({url}))");
            written.wrong(name, error, "write the name or address others reach this member by");
        } else if urls.is_empty() && written.given(name).is_some() {
            written.wrong(name, format!("--{name} names no URL"), "leave it out, or write http://host:port");
        }
    }
}

/// At most one way to find the first members.
fn bootstrap_source(written: &mut Written) {
    let set = |name: &str| written.given(name).is_some_and(|given| !given.raw.is_empty());
    let (cluster, old, new, srv) =
        (set("initial-cluster"), set("discovery"), set("discovery-endpoints"), set("discovery-srv"));
    let token = set("discovery-token");
    if [cluster, old, new, srv].iter().filter(|set| **set).count() > 1 {
        let second = if new { "discovery-endpoints" } else { "discovery" };
        let error = format!(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"{second}\" or \
             \"discovery-srv\""
        );
        let culprit = if new {
            "discovery-endpoints"
        } else if old {
            "discovery"
        } else {
            "discovery-srv"
        };
        written.wrong(culprit, error, "keep --initial-cluster");
    }
    if token != new {
        let error = "both --discovery-token and --discovery-endpoints must be set";
        let (there, hint) = match token {
            true => ("discovery-token", "add --discovery-endpoints=host:port,host:port"),
            false => {
                ("discovery-endpoints", "add --discovery-token with the name under which the cluster's size is written")
            }
        };
        written.wrong(there, error, hint);
    }
    let raw = written.given("discovery-endpoints").map(|given| given.raw.clone());
    if raw.is_some_and(|raw| !raw.is_empty() && raw.split(',').any(|part| part.trim().is_empty())) {
        let error = "--discovery-endpoints must not contain empty endpoints";
        written.wrong("discovery-endpoints", error, "write host:port,host:port");
    }
    discovery_service(written);
}

fn discovery_service(written: &mut Written) {
    for name in [
        "discovery-dial-timeout",
        "discovery-request-timeout",
        "discovery-keepalive-time",
        "discovery-keepalive-timeout",
    ] {
        let time = written.duration(name);
        if time <= 0 {
            let error = format!("--{name} must be >0 (set to {})", go::format_duration(time));
            written.wrong(name, error, "write a duration such as 5s");
        }
    }
    let endpoints = written.list("discovery-endpoints");
    let has_port = |endpoint: &str| {
        let address = plain_endpoint(endpoint).rsplit_once(':');
        address.is_some_and(|(host, port)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok())
    };
    let name = "discovery-endpoints";
    if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.starts_with("https:")) {
        let error = format!("--{name} is refused: TLS towards the discovery service comes later ({endpoint})");
        written.wrong(name, error, "write http:// instead of https://");
    } else if let Some(endpoint) = endpoints.iter().find(|endpoint| !has_port(endpoint)) {
        written.wrong(name, format!("--{name}: {endpoint} has no host and port"), "write host:port,host:port");
    }
}

fn raft_times(written: &mut Written) {
    let (heartbeat, election) = ("heartbeat-interval", "election-timeout");
    let (heartbeat_ms, election_ms) = (written.uint(heartbeat), written.uint(election));
    if heartbeat_ms == 0 {
        let hint = "write milliseconds, such as 100";
        written.wrong(heartbeat, "--heartbeat-interval must be >0 (set to 0ms)", hint);
    }
    if election_ms == 0 {
        let hint = "write milliseconds, such as 1000";
        written.wrong(election, "--election-timeout must be >0 (set to 0ms)", hint);
    }
    if !written.sound(&[heartbeat, election]) {
        return;
    }
    if heartbeat_ms.saturating_mul(5) > election_ms {
        let error = format!(
            "--election-timeout[{election_ms}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat_ms}ms]"
        );
        let hint = format!("write {} or more, or a shorter --heartbeat-interval", heartbeat_ms.saturating_mul(5));
        let culprit = if written.given(election).is_some() { election } else { heartbeat };
        written.wrong(culprit, error, &hint);
    } else if election_ms > ELECTION_MS_MAX {
        let error =
            format!("--election-timeout[{election_ms}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms");
        written.wrong(election, error, "write milliseconds, such as 1000");
    }
}

/// Only outside the file: there, etcd keeps the default of what is advertised.
fn advertise_beside_listen(written: &mut Written) {
    let (listen, advertise) = ("listen-client-urls", "advertise-client-urls");
    let missing =
        written.given(listen).is_some() && written.given(advertise).is_none() && !written.has_own_default(advertise);
    if !written.from_file && missing && written.sound(&[listen, advertise]) {
        let urls = url::join(&written.urls(listen));
        let error = "--advertise-client-urls is required when --listen-client-urls is set explicitly";
        let hint = format!("add --advertise-client-urls with the URL clients reach this member by, maybe {urls}");
        written.wrong(advertise, error, &hint);
    }
}

fn compaction(written: &mut Written) {
    let (mode, retention) = (written.text("auto-compaction-mode"), written.text("auto-compaction-retention"));
    match mode.as_str() {
        "periodic" | "revision" => {}
        // etcd 3.5 starts, and compacts nothing; 3.6 refuses it.
        "" if Retention::read(written) == Ok(None) => {}
        "" => written.wrong("auto-compaction-mode", "undefined auto-compaction-mode", "write periodic or revision"),
        _ => {
            let error = format!("unknown auto-compaction-mode {}", go_quote(&mode));
            written.wrong("auto-compaction-mode", error, "write periodic or revision");
        }
    }
    let kept = match Retention::read(written) {
        Ok(kept) => kept,
        Err(error) => {
            let hint = "write a duration such as 30m, or a number: of hours, or of revisions with \
                        --auto-compaction-mode=revision";
            return written.wrong("auto-compaction-retention", error, hint);
        }
    };
    let Some(given) = written.given("auto-compaction-retention").filter(|_| kept.is_some()) else { return };
    let setting = given.setting();
    let what = match retention_number(&retention) {
        None if mode == "revision" => {
            format!(
                "a duration where revisions are counted is its nanoseconds: {retention} keeps all history there will \
                     ever be; write how many revisions to keep"
            )
        }
        Some(hours) if mode == "periodic" && hours <= HOURS_LIKELY => {
            let what = format!("{hours} without a unit is hours: {}", go::format_duration(hours * 3_600_000_000_000));
            return written.notices.push(Notice::Remark { setting, what });
        }
        Some(hours) if mode == "periodic" => {
            format!(
                "{hours} without a unit is hours: more than a month of history is kept; write a duration such as 1h, or \
                     add --auto-compaction-mode=revision if revisions are meant"
            )
        }
        _ => return,
    };
    written.notices.push(Notice::Setting { setting, what });
}

fn tracing(written: &mut Written) {
    let rate = written.int("distributed-tracing-sampling-rate");
    if !written.bool("enable-distributed-tracing") || (0..=1_000_000).contains(&rate) {
        return;
    }
    let why = if rate < 0 { "must be positive" } else { "must be less than 1000000" };
    let error = format!("distributed tracing configurition is not valid: (tracing sampling rate {why})");
    written.wrong("distributed-tracing-sampling-rate", error, "write how many of a million requests to trace");
}

fn gates(written: &mut Written) {
    let name = "feature-gates";
    if !written.sound(&[name]) {
        return;
    }
    let new = written.gates(name);
    let mut pairs = Vec::new();
    let mut clash = None;
    for (gate, given) in written.old_gates() {
        let Value::Bool(on) = given.value else { continue };
        if let Some((_, newly)) = new.iter().find(|(name, _)| name == gate) {
            let old = given.flag.name;
            let error = format!(
                "cannot specify both flags: --{old}={on} and --{name}={gate}={newly} at the same time, please just use \
                 --{name}={gate}={newly}"
            );
            clash.get_or_insert((error, format!("leave {} out", given.setting())));
        }
        pairs.push((gate.to_string(), on));
    }
    if let Some((error, hint)) = clash {
        return written.wrong(name, error, &hint);
    }
    pairs.extend(new);
    let on = |gate: &str| {
        let gate = gate::find(gate).expect("a gate of the table");
        gate::setting(gate, &pairs).map_or(gate.stage.default(), |(_, on)| on)
    };
    if on("LeaseCheckpointPersist") && !on("LeaseCheckpoint") {
        let old = written.old_gates().find(|(gate, _)| *gate == "LeaseCheckpointPersist").map(|(_, given)| given);
        if let Some(old) = old {
            let (persist, needed) =
                ("experimental-enable-lease-checkpoint-persist", "experimental-enable-lease-checkpoint");
            let problem = Problem::new(format!("setting {persist} requires {needed}")).setting(old);
            return written.fault(name, problem.hint(format!("add --{needed}, or leave it out")));
        }
        let error = "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint";
        return written.wrong(name, error, "write --feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true");
    }
    if on("LeaseCheckpoint") && !on("LeaseCheckpointPersist") {
        written.notices.push(Notice::Setting {
            setting: "--feature-gates".to_string(),
            what: "Detected that checkpointing is enabled without persistence. Consider enabling feature gate \
                   LeaseCheckpointPersist"
                .to_string(),
        });
    }
    for gate in &GATES {
        let Some((by, value)) = gate::setting(gate, &pairs).filter(|(_, on)| *on != gate.stage.default()) else {
            continue;
        };
        let setting = match written.old_gates().find(|(name, _)| *name == by) {
            Some((_, given)) => given.setting(),
            None => format!("--feature-gates={by}={value}"),
        };
        match gate.status {
            Status::Refused { why, .. } => {
                let through = if by == gate.name { String::new() } else { format!(" (for {})", gate.name) };
                let problem = Problem::new(format!("{setting} is refused{through}: {why}"));
                written.fault(name, problem.found(setting).hint("leave it out"));
            }
            Status::NoMeaning(why) => {
                written.notices.push(Notice::Remark { setting, what: format!("{} has no effect: {why}", gate.name) });
            }
            _ => {}
        }
    }
}

fn hash_check_time(written: &mut Written) {
    let time = written.duration("compact-hash-check-time");
    if time <= 0 {
        let error = format!("--compact-hash-check-time must be >0 (set to {})", go::format_duration(time));
        written.wrong("compact-hash-check-time", error, "write a duration such as 1m");
    }
}

fn tls(written: &mut Written) {
    let (min, max) = (written.text("tls-min-version"), written.text("tls-max-version"));
    for (name, version) in [("tls-min-version", &min), ("tls-max-version", &max)] {
        if !matches!(version.as_str(), "" | "TLS1.2" | "TLS1.3") {
            let error = format!("unexpected TLS version {} (must be one of: TLS1.2, TLS1.3)", go_quote(version));
            written.wrong(name, error, "write TLS1.2 or TLS1.3");
        }
    }
    if written.sound(&["tls-min-version", "tls-max-version"]) && min == "TLS1.3" {
        if max == "TLS1.2" {
            let error = format!("min version ({min}) is greater than max version ({max})");
            written.wrong("tls-max-version", error, "leave it out");
        }
        if !written.list("cipher-suites").is_empty() {
            let error = "cipher suites cannot be configured when only TLS1.3 is enabled";
            written.wrong("cipher-suites", error, "leave it out");
        }
    }
}

fn auth(written: &mut Written) {
    let token = written.text("auth-token");
    if !matches!(token.split(',').next(), Some("simple" | "jwt" | "")) {
        let hint = "this is no password and no secret of the cluster: it says of which kind the tokens of users are who \
                    logged in; leave it out, or write simple";
        written.wrong("auth-token", "auth: invalid auth options", hint);
    }
    let cost = written.uint("bcrypt-cost");
    if !(4..=31).contains(&cost) {
        let setting = written.given("bcrypt-cost").map(ToString::to_string).unwrap_or_default();
        let what = format!("use default bcrypt cost instead of the invalid given cost {cost} (4 to 31)");
        written.notices.push(Notice::Setting { setting, what });
    }
}

fn version_2(written: &mut Written) {
    if written.bool("enable-v2") && written.text("v2-deprecation") == "gone" {
        written.wrong("enable-v2", "--enable-v2 and --v2-deprecation=gone are mutually exclusive", "leave both out");
    }
}

/// What etcd leaves open and cannot be meant.
fn bounds(written: &mut Written) {
    if written.text("name").is_empty() {
        written.wrong("name", "--name must not be empty", "leave it out, or write a name");
    }
    for name in [
        "backend-batch-interval",
        "grpc-keepalive-min-time",
        "grpc-keepalive-interval",
        "grpc-keepalive-timeout",
        "compaction-sleep-interval",
        "watch-progress-notify-interval",
        "warning-apply-duration",
        "warning-unary-request-duration",
        "raft-read-timeout",
        "raft-write-timeout",
        "corrupt-check-time",
    ] {
        let time = written.duration(name);
        if time < 0 {
            let error = format!("--{name} must not be negative (set to {})", go::format_duration(time));
            written.wrong(name, error, "write a duration such as 5s");
        }
    }
    for (name, hint) in [
        ("backend-batch-limit", "write 0 for the default"),
        ("compaction-batch-limit", "write 0 for the default"),
        ("max-learners", "write 0 for none"),
    ] {
        let limit = written.int(name);
        if limit < 0 {
            written.wrong(name, format!("--{name} must not be negative (set to {limit})"), hint);
        }
    }
    let request = written.uint("max-request-bytes");
    if request == 0 || request > REQUEST_BYTES_MAX {
        let error = format!("--max-request-bytes must be from 1 to {REQUEST_BYTES_MAX} (set to {request})");
        written.wrong("max-request-bytes", error, "write 1572864, or leave it out");
    }
    let segment = written.uint("quorate-log-segment-bytes");
    if !LOG_SEGMENT_BYTES.contains(&segment) {
        let (min, max) = LOG_SEGMENT_BYTES.into_inner();
        let error = format!("--quorate-log-segment-bytes must be from {min} to {max} (set to {segment})");
        written.wrong("quorate-log-segment-bytes", error, "write 67108864, or leave it out");
    }
}

/// What becomes of each flag that was given.
fn statuses(written: &mut Written) {
    for flag in table::flags() {
        let Some(given) = written.given(flag.name) else { continue };
        if !written.sound(&[flag.name]) || is_harmless(flag, &given.value) {
            continue;
        }
        // Many who use version 3 alone still set it, and etcd 3.6, which does not know it, starts with a warning.
        let is_left_over =
            flag.name == "enable-v2" && matches!(given.origin, Origin::Variable(_) | Origin::SecretFile { .. });
        match flag.status {
            Status::Refused { why, .. } if !is_left_over => {
                let error = format!("--{} is refused: {why}", flag.name);
                let problem = Problem::new(error).setting(given).hint("leave it out");
                written.fault(flag.name, problem);
            }
            Status::Refused { why, .. } | Status::NoMeaning(why) => {
                let notice = Notice::Remark { setting: given.setting(), what: format!("has no effect: {why}") };
                written.notices.push(notice);
            }
            _ => {}
        }
    }
}

/// Whether a value asks for nothing this server lacks.
fn is_harmless(flag: &Flag, value: &Value) -> bool {
    let same = |text: &str| Value::parse(flag.kind, text).as_ref() == Ok(value);
    match (flag.status, value) {
        // An invalid cost is replaced by the default.
        (_, Value::Uint(cost)) if flag.name == "bcrypt-cost" && !(4..=31).contains(cost) => true,
        (Status::Refused { harmless: Some(harmless), .. }, _) => harmless.iter().any(|text| same(text)),
        _ => same(flag.default),
    }
}
