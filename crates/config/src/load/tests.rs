use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;

use super::*;
use crate::flag::{Flag, Kind, Status};
use crate::settings::{CorruptionChecks, Credentials, DiscoveryRegistry, DiscoverySrv, InitialClusterState, Retention};
use crate::{LogLevel, LogOutput, table};

/// One start: arguments, variables, and the text of `etcd.yml`.
#[derive(Clone, Copy, Default)]
struct Start<'a> {
    args: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
    /// Further files, by path.
    files: &'a [(&'a str, &'a str)],
    terminal: bool,
}

impl Start<'_> {
    fn load(self) -> Outcome {
        let read = |path: &Path| {
            let own = [("etcd.yml", self.file), ("/proc/meminfo", Some("MemTotal: 4000 kB\n"))];
            let mut files = self.files.iter().map(|(name, text)| (*name, Some(*text))).chain(own);
            let found = files.find(|(name, text)| text.is_some() && path == Path::new(name));
            let text = found.and_then(|(_, text)| text).ok_or_else(|| io::Error::from_raw_os_error(2))?;
            Ok(text.as_bytes().to_vec())
        };
        let surroundings = Surroundings {
            read_file: &read,
            default_host: &|| Some(IpAddr::from([10, 0, 0, 7])),
            terminal: self.terminal,
            wall: Duration::from_secs(1),
            compatible_version: "3.5.30",
        };
        let mut args: Vec<OsString> = self.args.iter().map(OsString::from).collect();
        if self.file.is_some() {
            args.push("--config-file=etcd.yml".into());
        }
        let env = self.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load(args.into_iter(), env, &surroundings)
    }

    fn run(self) -> Loaded {
        match self.load() {
            Outcome::Run(loaded) => *loaded,
            Outcome::Print { stderr, .. } => panic!("refused: {stderr}"),
        }
    }

    /// The lines of a refusal, warnings before it included.
    fn lines(self) -> Vec<Json> {
        match self.load() {
            Outcome::Print { stdout, stderr, exit: 1 } if stdout.is_empty() => {
                stderr.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The lines of a refusal, without warnings.
    fn refused(self) -> Vec<Json> {
        self.lines().into_iter().filter(|line| line["level"] == "fatal").collect()
    }

    fn errors(self) -> Vec<String> {
        self.refused().iter().map(|line| line["error"].as_str().unwrap_or_default().to_string()).collect()
    }
}

fn args<'a>(args: &'a [&'a str]) -> Start<'a> {
    Start { args, ..Start::default() }
}

fn env<'a>(env: &'a [(&'a str, &'a str)]) -> Start<'a> {
    Start { env, ..Start::default() }
}

fn file(text: &str) -> Start<'_> {
    Start { file: Some(text), ..Start::default() }
}

/// A value that differs from the flag's default and would do in etcd.
fn sample(flag: &'static Flag) -> &'static str {
    match flag.name {
        "name" => "m1",
        "election-timeout" => "2000",
        "listen-peer-urls" => "http://127.0.0.1:1",
        "listen-client-urls" => "http://127.0.0.1:2",
        "advertise-client-urls" => "http://10.1.1.1:2",
        "initial-advertise-peer-urls" => "http://10.1.1.1:1",
        "initial-cluster" => "default=http://localhost:2380,default=http://localhost:2381",
        "auto-compaction-mode" => "revision",
        "auto-compaction-retention" => "1h",
        "feature-gates" => "LeaseCheckpoint=true",
        "log-format" => "json",
        "log-outputs" => "stdout",
        "logger" => "zap",
        "metrics" => "extensive",
        "tls-min-version" | "tls-max-version" => "TLS1.3",
        "auth-token" => "jwt,pub-key=a",
        "quorate-log-segment-bytes" => "1048576",
        "config-file" | "check-config" | "version" => panic!("not a setting"),
        _ => match table::kind(flag) {
            Kind::Bool if table::canonical(flag).default == "true" => "false",
            Kind::Bool => "true",
            Kind::Int | Kind::Uint | Kind::Uint32 => "7",
            Kind::Duration => "7s",
            Kind::Choice(choices) => choices.iter().find(|choice| **choice != flag.default).expect("two choices"),
            Kind::Urls => "http://127.0.0.1:7",
            Kind::Origins => "http://a.example:7",
            Kind::Level => "debug",
            Kind::Text | Kind::Secret | Kind::List | Kind::Gates | Kind::Ignored => "x",
        },
    }
}

/// `key: value` as the file has it, through its maps.
fn file_line(key: &str, flag: &'static Flag) -> String {
    let value = match sample(flag) {
        "true" | "false" => sample(flag).to_string(),
        text => format!("'{text}'"),
    };
    let mut text = String::new();
    let parts: Vec<&str> = key.split('.').collect();
    for (depth, part) in parts.iter().enumerate() {
        let end = if depth + 1 == parts.len() { format!(" {value}\n") } else { "\n".to_string() };
        text += &format!("{}{part}:{end}", "  ".repeat(depth));
    }
    text
}

/// All three ways to give `flag` its sample value, with what the setting is called there.
fn ways(flag: &'static Flag, mut each: impl FnMut(Start<'_>, &str)) {
    let attached = format!("--{}={}", flag.name, sample(flag));
    let variable = flag.variable();
    // Listening somewhere else must go with advertising it, outside the file.
    let (beside_flag, beside_variable): (&[&str], &[(&str, &str)]) = match flag.name {
        "listen-client-urls" => {
            (&["--advertise-client-urls=http://a:1"], &[("ETCD_ADVERTISE_CLIENT_URLS", "http://a:1")])
        }
        _ => (&[], &[]),
    };
    let all_args: Vec<&str> = [attached.as_str()].into_iter().chain(beside_flag.iter().copied()).collect();
    each(args(&all_args), &format!("--{}", flag.name));
    let all_env: Vec<_> =
        [(variable.as_str(), sample(flag))].into_iter().chain(beside_variable.iter().copied()).collect();
    each(Start { env: &all_env, ..Start::default() }, &variable);
    for key in flag.file_keys() {
        let text = file_line(key, flag);
        each(file(&text), key);
    }
}

#[test]
fn every_flag_is_known_as_flag_variable_and_key() {
    let defaults = args(&[]).run().settings;
    for flag in table::flags().filter(|flag| !matches!(flag.name, "config-file" | "check-config" | "version")) {
        ways(flag, |start, called| match table::canonical(flag).status {
            // One needs the other: see `a_discovery_service_is_asked_for_by_flags_and_by_file`.
            _ if matches!(flag.name, "discovery-token" | "discovery-endpoints") => {
                assert!(start.errors()[0].contains("--discovery-"), "{called}");
            }
            Status::Works => {
                let loaded = start.run();
                // `zap` is the only logger; what a retention counts, how often hashes are compared or what a service is
                // called matters only once there is one.
                let name = table::canonical(flag).name;
                let is_part_of_discovery = name.starts_with("discovery-") && name != "discovery-srv";
                let has_effect = !is_part_of_discovery
                    && !matches!(name, "logger" | "auto-compaction-mode" | "compact-hash-check-time");
                assert_eq!(loaded.settings != defaults, has_effect, "{called}");
                let old = loaded.notices.iter().any(|notice| format!("{notice:?}").contains("old name"));
                assert_eq!(old, matches!(flag.status, Status::OldName(_)), "{called}: {:?}", loaded.notices);
            }
            Status::Refused { why, .. } if called != "ETCD_ENABLE_V2" => {
                let name = table::canonical(flag).name;
                let lines = start.refused();
                let told = lines.iter().find(|line| line["error"] == format!("--{name} is refused: {why}").as_str());
                let setting = told.map(|line| line["setting"].as_str().unwrap_or_default().to_string());
                let by_validation = name == "enable-log-rotation";
                assert!(
                    by_validation || setting.is_some_and(|setting| setting.starts_with(called)),
                    "{called}: {lines:?}"
                );
            }
            Status::Refused { why, .. } | Status::NoMeaning(why) => {
                let notices = format!("{:?}", start.run().notices);
                assert!(notices.contains(why) && notices.contains(called), "{called}: {notices}");
            }
            Status::OldGate(gate) => {
                let refused = matches!(crate::gate::find(gate).unwrap().status, Status::Refused { .. });
                match start.load() {
                    Outcome::Run(loaded) => assert!(!refused && format!("{:?}", loaded.notices).contains(called)),
                    Outcome::Print { stderr, .. } => {
                        assert!(
                            (refused || gate == "LeaseCheckpointPersist") && stderr.contains("failed to verify flags")
                        );
                    }
                }
            }
            Status::Legacy => assert!(format!("{:?}", start.run().notices).contains("no longer supported"), "{called}"),
            Status::OldName(_) => unreachable!("canonical flags are no old names"),
        });
    }
}

#[test]
fn default_values_written_out_change_nothing() {
    let defaults = args(&[]).run();
    for flag in table::flags() {
        let unwritable = matches!(flag.status, Status::Legacy) || flag.name == "version";
        if unwritable {
            continue;
        }
        let default = table::canonical(flag).default;
        let loaded = match flag.name {
            "listen-client-urls" => {
                args(&["--listen-client-urls=http://localhost:2379", "--advertise-client-urls=http://localhost:2379"])
                    .run()
            }
            // Written out and empty, these are mistakes.
            _ if default.is_empty() && matches!(flag.kind, Kind::Urls) => continue,
            _ => args(&[&format!("--{}={default}", flag.name)]).run(),
        };
        assert_eq!(loaded.settings, defaults.settings, "--{}={default}", flag.name);
    }
}

#[test]
fn defaults_are_etcds_but_for_the_data_directory() {
    let loaded = args(&[]).run();
    assert_eq!(loaded.notices, []);
    let settings = loaded.settings;
    assert_eq!((settings.name.as_str(), settings.data_dir), ("default", PathBuf::from("default.quorate")));
    assert_eq!(settings.listen_client_urls[0].to_string(), "http://localhost:2379");
    assert_eq!(settings.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(settings.election_timeout, Duration::from_secs(1));
    assert_eq!((settings.max_txn_ops, settings.max_request_bytes), (128, 1_572_864));
    assert_eq!(settings.quota_backend_bytes, Some(2 << 30));
    assert_eq!(settings.backend_batch_interval, Duration::from_millis(100));
    assert_eq!(settings.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(settings.value_memory_budget_bytes, 1_024_000);
    assert_eq!(settings.log.outputs, [LogOutput::Stderr]);
    assert_eq!(settings.max_learners, 1);
    assert!(settings.strict_reconfig_check && settings.initial_election_tick_advance && !settings.force_new_cluster);
    let checks = CorruptionChecks { initial: false, interval: None, compaction_interval: None };
    assert_eq!(settings.corruption_checks, checks);
    let cluster = args(&[]).run().settings.initial_cluster().unwrap();
    assert_eq!(
        (cluster.token.as_str(), cluster.to_string().as_str()),
        ("etcd-cluster", "default=http://localhost:2380")
    );
}

#[test]
fn zero_and_negative_values_have_etcds_meaning() {
    let settings = args(&[
        "--name=a",
        "--quota-backend-bytes=-1",
        "--snapshot-count=0",
        "--watch-progress-notify-interval=1ms",
        "--warning-unary-request-duration=0",
        "--grpc-keepalive-interval=0s",
        "--max-concurrent-streams=0",
    ])
    .run()
    .settings;
    assert_eq!(settings.data_dir, PathBuf::from("a.quorate"));
    assert_eq!(settings.quota_backend_bytes, None);
    assert_eq!(settings.watch_progress_notify_interval, Duration::from_millis(100));
    assert_eq!(settings.warning_unary_request_duration, Duration::from_millis(300));
    assert_eq!(settings.grpc_keepalive_interval, Duration::ZERO);
    assert_eq!(settings.max_concurrent_streams, 16_384);
}

#[test]
fn validation_has_etcds_texts() {
    for (given, want) in [
        (&["--listen-peer-urls=http://example.com:1"][..], "expected IP in URL for binding (http://example.com:1)"),
        (&["--listen-metrics-urls=http://:1"], "expected IP in URL for binding (http://:1)"),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            r#"--initial-advertise-peer-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))"#,
        ),
        (
            &["--advertise-client-urls=http://:1"],
            r#"--advertise-client-urls "http://:1" must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host (http://:1))"#,
        ),
        (
            &["--discovery=http://d", "--initial-cluster=a=http://1.1.1.1:1"],
            r#"multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery" or "discovery-srv""#,
        ),
        (
            &["--discovery-endpoints=d", "--discovery-token=t", "--discovery-srv=a"],
            r#"multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv""#,
        ),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            &["--election-timeout=100"],
            "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            &["--heartbeat-interval=18446744073709551615"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[18446744073709551615ms]",
        ),
        (&["--election-timeout=60000"], "--election-timeout[60000ms] is too long, and should be set less than 50000ms"),
        (&["--auto-compaction-mode=foo"], r#"unknown auto-compaction-mode "foo""#),
        (&["--auto-compaction-retention=foo"], r#"error parsing CompactionRetention: time: invalid duration "foo""#),
        (&["--auto-compaction-mode=", "--auto-compaction-retention=5"], "undefined auto-compaction-mode"),
        (
            &["--auto-compaction-retention=-1"],
            r#"error parsing CompactionRetention: time: missing unit in duration "-1""#,
        ),
        (&["--auto-compaction-retention=-1h"], "--auto-compaction-retention must not be negative (set to -1h)"),
        (
            &["--auto-compaction-mode=revision", "--auto-compaction-retention=-5m"],
            "--auto-compaction-retention must not be negative (set to -5m)",
        ),
        (
            &["--auto-compaction-retention=9999999999"],
            r#"error parsing CompactionRetention: time: invalid duration "9999999999""#,
        ),
        (
            &["--auto-compaction-retention=1.5"],
            r#"error parsing CompactionRetention: time: missing unit in duration "1.5""#,
        ),
        (&["--discovery-token=t"], "both --discovery-token and --discovery-endpoints must be set"),
        (
            &["--discovery-token=t", "--discovery-endpoints=https://a:1"],
            "--discovery-endpoints is refused: TLS towards the discovery service comes later (https://a:1)",
        ),
        (&["--discovery-token=t", "--discovery-endpoints=a"], "--discovery-endpoints: a has no host and port"),
        (&["--discovery-keepalive-time=0"], "--discovery-keepalive-time must be >0 (set to 0s)"),
        (
            &["--discovery-token=t", "--discovery-endpoints=a,,b"],
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            &["--experimental-enable-lease-checkpoint", "--feature-gates=LeaseCheckpoint=true"],
            "cannot specify both flags: --experimental-enable-lease-checkpoint=true and --feature-gates=LeaseCheckpoint=true at the same time, please just use --feature-gates=LeaseCheckpoint=true",
        ),
        (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (
            &["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (&["--tls-min-version=TLS1.9"], r#"unexpected TLS version "TLS1.9" (must be one of: TLS1.2, TLS1.3)"#),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=X"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            &["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=http://a:1"],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-peer-urls=https://127.0.0.1:1"],
            "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (&["--auth-token=secret"], "auth: invalid auth options"),
        (
            &["--listen-client-http-urls=http://localhost:2379"],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://localhost:2379",
        ),
        (&["--enable-v2", "--v2-deprecation=gone"], "--enable-v2 and --v2-deprecation=gone are mutually exclusive"),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &["--enable-log-rotation", "--log-outputs=/tmp/x", "--log-rotation-config-json=foo"],
            "improperly formatted log rotation config: not a JSON object",
        ),
        (&["--logger=capnslog"], r#"unknown logger option "capnslog""#),
        (&["--log-format=xml"], "unknown log format: xml, supported values json, console"),
        (&["--log-outputs=default,stderr"], r#"multi logoutput for "default" is not supported yet"#),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--experimental-warning-unary-request-duration=1s", "--warning-unary-request-duration=1s"],
            "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are set. Use only --warning-unary-request-duration",
        ),
        (
            &["--experimental-compaction-batch-limit=1", "--compaction-batch-limit=2"],
            "--compaction-batch-limit and --experimental-compaction-batch-limit are one setting but differ",
        ),
        (&["extra"], "'extra' is not a valid flag"),
        (&["--name="], "--name must not be empty"),
        (&["--backend-batch-interval=-1s"], "--backend-batch-interval must not be negative (set to -1s)"),
        (&["--backend-batch-limit=-1"], "--backend-batch-limit must not be negative (set to -1)"),
        (&["--max-learners=-1"], "--max-learners must not be negative (set to -1)"),
        (&["--listen-peer-urls="], "--listen-peer-urls names no URL"),
        (&["--max-request-bytes=0"], "--max-request-bytes must be from 1 to 1073741824 (set to 0)"),
        (&["--log-outputs="], "--log-outputs names no output"),
        (
            &["--feature-gates=AllAlpha=true"],
            "--feature-gates=AllAlpha=true is refused (for StopGRPCServiceOnDefrag): it comes later; requests are served during defragmentation",
        ),
        (&["gateway", "start"], "`quorate gateway` is not there yet"),
    ] {
        let errors = args(given).errors();
        assert!(errors.contains(&want.to_string()), "{given:?}: {errors:#?}");
    }
}

#[test]
fn all_problems_are_told_at_once_each_flag_once() {
    let lines = Start {
        args: &["--heartbeat-interval=0", "--cert-file=a", "--auto-compaction-mode=foo"],
        env: &[("ETCD_SNAPSHOT_COUNT", "x"), ("ETCD_AUTO_TLS", "true")],
        ..Start::default()
    }
    .refused();
    let settings: Vec<_> = lines.iter().map(|line| line["setting"].as_str().unwrap_or_default()).collect();
    let want =
        ["ETCD_SNAPSHOT_COUNT", "--heartbeat-interval", "--auto-compaction-mode", "--cert-file", "ETCD_AUTO_TLS"];
    assert_eq!(settings, want);
    assert_eq!(lines[1]["level"], "fatal");
    assert_eq!(lines[1]["msg"], "failed to verify flags");
    assert_eq!(lines[1]["value"], "0");
    assert_eq!(lines[1]["hint"], "write milliseconds, such as 100");
    assert_eq!(lines[1]["ts"], "1970-01-01T00:00:01.000000Z");
}

/// What was passed over may be what keeps the rest from working.
#[test]
fn warnings_are_told_with_the_problems() {
    let variables = [("ETCD_INTIAL_CLUSTER", "a=http://a:1"), ("ETCD_VERSION", "3"), ("ETCD_HEARTBEAT_INTERVAL", "0")];
    let lines = env(&variables).lines();
    let told: Vec<_> =
        lines.iter().map(|line| (line["level"].as_str().unwrap(), line["msg"].as_str().unwrap())).collect();
    let want = [
        ("warn", "unrecognized environment variable"),
        ("warn", "cannot set special environment variable"),
        ("fatal", "failed to verify flags"),
    ];
    assert_eq!(told, want);
    assert_eq!(lines[0]["environment-variable"], "ETCD_INTIAL_CLUSTER");
    assert_eq!(lines[0]["hint"], "did you mean ETCD_INITIAL_CLUSTER?");
    let by_file = file("quota-backend-byte: 5\nheartbeat-interval: 0\nsnapshot-count: 5\n").lines();
    assert_eq!(by_file.len(), 2, "a remark is none: {by_file:?}");
    assert_eq!(by_file[0]["msg"], "unknown key, ignored: did you mean quota-backend-bytes?");

    let Outcome::Print { stderr, .. } = (Start { terminal: true, ..env(&variables) }).load() else { panic!("refused") };
    let first = "quorate: warning: unrecognized environment variable environment-variable=ETCD_INTIAL_CLUSTER \
                 hint=did you mean ETCD_INITIAL_CLUSTER?";
    assert_eq!(stderr.lines().next(), Some(first));
}

#[test]
fn settings_are_checked_without_a_start() {
    let check = |start: Start<'_>| match start.load() {
        Outcome::Print { stdout, stderr, exit } => (stdout, stderr, exit),
        Outcome::Run(_) => panic!("it starts"),
    };
    let good = "the settings are good\n".to_string();
    assert_eq!(check(args(&["--check-config"])), (good.clone(), String::new(), 0));
    assert_eq!(check(env(&[("ETCD_CHECK_CONFIG", "true")])).2, 0);
    let (stdout, stderr, exit) = check(args(&["--check-config", "--initial-cluster=default=http://a:1,b=http://b:1"]));
    assert!((stdout, exit) == (good.clone(), 0) && stderr.contains("take an odd number"), "{stderr}");
    for bad in [
        args(&["--check-config", "--heartbeat-interval=0"]),
        args(&["--check-config", "--initial-cluster=a=http://a:1"]),
        Start { file: Some("heartbeat-interval: 0"), ..args(&["--check-config"]) },
    ] {
        let (stdout, stderr, exit) = check(bad);
        assert!(stdout.is_empty() && exit == 1 && stderr.contains("failed to verify flags"), "{stderr}");
    }
    let by_file = check(Start { file: Some("name: a"), ..args(&["--check-config"]) });
    assert_eq!(by_file, (good, String::new(), 0));
}

#[test]
fn sizes_are_numbers_of_bytes() {
    let lines = env(&[("ETCD_QUOTA_BACKEND_BYTES", "4GiB")]).refused();
    assert_eq!(lines[0]["error"], r#"invalid value "4GiB" for ETCD_QUOTA_BACKEND_BYTES: parse error"#);
    assert_eq!(lines[0]["hint"], "write a whole number of bytes, such as 4294967296 for 4 GiB");
}

#[test]
fn what_the_command_line_cannot_say_keeps_nothing_else_from_being_told() {
    let start = Start {
        args: &[
            "--max-wals=x",
            "--heartbeat-interval=0",
            "--listen-client-urls=foo",
            "--advertise-client-urls=http://a:1",
        ],
        ..env(&[("ETCD_AUTO_COMPACTION_MODE", "foo")])
    };
    let Outcome::Print { stderr, exit: 2, .. } = start.load() else { panic!("bad syntax") };
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines[0].starts_with("invalid value \"x\" for flag -max-wals"), "{stderr}");
    assert!(lines[1].starts_with("invalid value \"foo\" for flag -listen-client-urls"), "{stderr}");
    assert!(
        lines[2].contains("--heartbeat-interval must be >0") && lines[3].contains("unknown auto-compaction-mode"),
        "{stderr}"
    );
    assert_eq!(lines[4], "Usage:");
    let stray = Start { args: &["--heartbeat-interval=0", "extra", "--version"], ..Start::default() };
    assert_eq!(stray.errors(), ["'extra' is not a valid flag", "--heartbeat-interval must be >0 (set to 0ms)"]);
}

#[test]
fn a_person_at_a_terminal_gets_text() {
    let refused = Start { args: &["--heartbeat-interval=0"], terminal: true, ..Start::default() }.load();
    let Outcome::Print { stderr, .. } = refused else { panic!("refused") };
    let want = "quorate: --heartbeat-interval must be >0 (set to 0ms) (--heartbeat-interval is \"0\"): \
                write milliseconds, such as 100\n";
    assert_eq!(stderr, want);
    let json = Start { args: &["--heartbeat-interval=0", "--log-format=json"], terminal: true, ..Start::default() };
    assert_eq!(json.refused().len(), 1);
}

#[test]
fn secrets_are_not_shown() {
    for start in [
        args(&["--auth-token=hunter2", "--discovery-password=hunter2", "--discovery-user=root:hunter2"]),
        env(&[("ETCD_AUTH_TOKEN", "hunter2"), ("ETCD_ROOT_PASSWORD", "hunter2")]),
        Start {
            files: &[("/run/secrets/password", "hunter2\n")],
            ..env(&[
                ("ETCD_AUTH_TOKEN_FILE", "/run/secrets/password"),
                ("ETCD_ROOT_PASSWORD_FILE", "/run/secrets/password"),
                ("ETCD_MAX_TXN_OPS_FILE", "/run/secrets/password"),
                ("ETCD_LISTEN_CLIENT_URLS_FILE", "/run/secrets/password"),
                ("ETCD_LOG_LEVEL_FILE", "/run/secrets/password"),
                ("ETCD_MAX_CONCURRENT_STREAMS_FILE", "/run/secrets/password"),
                ("ETCD_FEATURE_GATES_FILE", "/run/secrets/password"),
                ("ETCD_AUTO_COMPACTION_RETENTION_FILE", "/run/secrets/password"),
                ("ETCD_TLS_MIN_VERSION_FILE", "/run/secrets/password"),
                ("ETCD_START_FROM_SNAPSHOT_FILE", "/run/secrets/password"),
            ])
        },
        Start {
            files: &[("/run/secrets/password", "hunter2\n")],
            ..env(&[("ETCD_AUTO_COMPACTION_MODE_FILE", "/run/secrets/password")])
        },
        file("auth-token: hunter2\ndiscovery-config: {client: {auth: {password: hunter2}}}\n"),
    ] {
        let Outcome::Print { stderr, .. } = start.load() else { panic!("refused") };
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

/// etcd takes the bytes as they are; here a name and a URL are text.
#[test]
fn variables_that_are_no_text_are_not_passed_over() {
    let no_text = OsString::from_vec(b"a\xff".to_vec());
    let read = |_: &Path| Err(io::Error::from_raw_os_error(2));
    let surroundings = Surroundings {
        read_file: &read,
        default_host: &|| None,
        terminal: true,
        wall: Duration::ZERO,
        compatible_version: "3.5.30",
    };
    let start = |name: &str| load(std::iter::empty(), [(name.into(), no_text.clone())].into_iter(), &surroundings);
    let Outcome::Print { stderr, exit: 1, .. } = start("ETCD_NAME") else { panic!("refused") };
    assert_eq!(stderr, "quorate: ETCD_NAME is not UTF-8 text: write its value as UTF-8 text\n");
    assert!(matches!(start("HOME"), Outcome::Run(_)));
    assert!(matches!(start("ETCD_ROOT_PASSWORD"), Outcome::Print { exit: 1, .. }));
}

#[test]
fn a_variable_and_its_flag_conflict() {
    let lines = Start { args: &["--name=a"], env: &[("ETCD_NAME", "a")], ..Start::default() }.refused();
    assert_eq!(
        lines[0]["msg"],
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment \
         variable or disable flag))"
    );
    assert_eq!(
        (&lines[0]["level"], &lines[0]["environment-variable"]),
        (&Json::from("fatal"), &Json::from("ETCD_NAME"))
    );
    Start { args: &["--name=a"], env: &[("ETCD_NAME", "")], ..Start::default() }.run();
}

#[test]
fn bad_variables_exit_1_with_gos_words() {
    for (variable, value, want) in [
        ("ETCD_SNAPSHOT_COUNT", "x", r#"invalid value "x" for ETCD_SNAPSHOT_COUNT: parse error"#),
        (
            "ETCD_LISTEN_CLIENT_URLS",
            "foo",
            r#"invalid value "foo" for ETCD_LISTEN_CLIENT_URLS: URL scheme must be http, https, unix, or unixs: foo"#,
        ),
    ] {
        assert_eq!(Start { env: &[(variable, value)], ..Start::default() }.errors(), [want]);
    }
}

#[test]
fn unknown_and_special_variables_are_told_and_passed_over() {
    let env = [
        ("ETCD_FOO", "1"),
        ("ETCD_DATADIR", "x"),
        ("ETCD_VERSION", "3"),
        ("ETCD_UNSUPPORTED_ARCH", "arm"),
        ("ETCDCTL_API", "3"),
        ("HOME", "/"),
    ];
    let notices = Start { env: &env, ..Start::default() }.run().notices;
    let unknown = |variable: &str, hint: Option<&str>| Notice::UnknownVariable {
        variable: variable.to_string(),
        hint: hint.map(String::from),
    };
    assert_eq!(
        notices,
        [
            unknown("ETCD_DATADIR", Some("did you mean ETCD_DATA_DIR?")),
            unknown("ETCD_FOO", None),
            Notice::SpecialVariable { variable: "ETCD_VERSION".to_string(), value: "3".to_string() },
        ]
    );
}

#[test]
fn what_kubernetes_says_of_a_service_is_no_mistake() {
    let links = [
        ("ETCD_PORT", "tcp://10.0.0.1:2379"),
        ("ETCD_PORT_2379_TCP", "tcp://10.0.0.1:2379"),
        ("ETCD_PORT_2379_TCP_ADDR", "10.0.0.1"),
        ("ETCD_SERVICE_HOST", "10.0.0.1"),
        ("ETCD_SERVICE_PORT", "2379"),
        ("ETCD_SERVICE_PORT_CLIENT", "2379"),
    ];
    let notices = env(&links).run().notices;
    assert!(
        matches!(&notices[..], [Notice::Remark { setting, .. }] if setting.contains("ETCD_PORT_2379_TCP")),
        "{notices:?}"
    );
    assert!(matches!(env(&[("ETCD_PORTS", "1")]).run().notices[0], Notice::UnknownVariable { .. }));
}

/// Docker and Swarm put secrets into files.
#[test]
fn a_variable_may_name_a_file_with_its_value() {
    let files = [("/run/secrets/name", "m1\r\n\n"), ("/run/secrets/token", " t\nu\n"), ("/empty", "\n")];
    let variables = [
        ("ETCD_NAME_FILE", "/run/secrets/name"),
        ("ETCD_INITIAL_CLUSTER_TOKEN_FILE", "/run/secrets/token"),
        ("ETCD_DATA_DIR_FILE", "/empty"),
    ];
    let settings = Start { files: &files, ..env(&variables) }.run().settings;
    assert_eq!((settings.name.as_str(), settings.initial_cluster_token.as_str()), ("m1", " t\nu"));
    assert_eq!(settings.data_dir, PathBuf::from("m1.quorate"));
    let by_file = Start {
        files: &[("/where", "etcd.yml\n"), ("etcd.yml", "name: m2\n")],
        ..env(&[("ETCD_CONFIG_FILE_FILE", "/where")])
    };
    assert_eq!(by_file.run().settings.name, "m2");

    // Flags whose own names end so are not meant.
    let certificate = env(&[("ETCD_CERT_FILE", "/nowhere")]).errors();
    assert!(certificate[0].starts_with("--cert-file is refused"), "{certificate:?}");
    // Nor is what is no setting, with a file or without.
    let unknown = env(&[("ETCD_FOO_FILE", "/nowhere"), ("ETCD_VERSION_FILE", "x")]).run().notices;
    assert_eq!(unknown.len(), 2, "{unknown:?}");
}

#[test]
fn what_is_wrong_with_a_file_of_a_variable_names_both() {
    let large = "x".repeat(65 << 10);
    let files = [("/a", "many\n"), ("/large", large.as_str()), ("/name", "m1")];
    let cases = [
        (vec![("ETCD_NAME_FILE", "/none")], "ETCD_NAME_FILE: open /none: no such file or directory"),
        (vec![("ETCD_NAME_FILE", "/large")], "ETCD_NAME_FILE: /large is larger than 65536 bytes"),
        (vec![("ETCD_NAME_FILE", "/name"), ("ETCD_NAME", "m1")], "ETCD_NAME and ETCD_NAME_FILE are both set"),
        (vec![("ETCD_ROOT_PASSWORD_FILE", "/none")], "ETCD_ROOT_PASSWORD_FILE: open /none: no such file or directory"),
        (vec![("ETCD_MAX_TXN_OPS_FILE", "/a")], r#"invalid value "***" for ETCD_MAX_TXN_OPS_FILE: parse error"#),
    ];
    for (variables, want) in &cases {
        let lines = Start { files: &files, ..env(variables) }.refused();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["error"], *want);
        assert!(lines[0]["hint"].is_string());
    }
    let line = &Start { files: &files, ..env(&cases[4].0) }.refused()[0];
    assert_eq!((&line["setting"], &line["value"]), (&Json::from("ETCD_MAX_TXN_OPS_FILE (/a)"), &Json::Null));
    let conflict = Start { files: &files, args: &["--name=a"], ..env(&[("ETCD_NAME_FILE", "/name")]) }.refused();
    assert_eq!(conflict[0]["environment-variable"], "ETCD_NAME_FILE");
    // With a settings file it counts for nothing.
    Start { file: Some("name: a"), ..env(&[("ETCD_NAME_FILE", "/none")]) }.run();
}

const OPEN: (&str, &str) = ("ALLOW_NONE_AUTHENTICATION", "yes");

/// The Compose files of Milvus, with the image's name changed.
#[test]
fn what_milvus_sets_starts_without_a_murmur() {
    let variables = [
        OPEN,
        ("ETCD_AUTO_COMPACTION_MODE", "revision"),
        ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
        ("ETCD_QUOTA_BACKEND_BYTES", "4294967296"),
        ("ETCD_SNAPSHOT_COUNT", "50000"),
    ];
    let flags = [
        "-advertise-client-urls=http://127.0.0.1:2379",
        "-listen-client-urls",
        "http://0.0.0.0:2379",
        "--data-dir",
        "/etcd",
    ];
    let loaded = Start { args: &flags, ..env(&variables) }.run();
    assert_eq!(loaded.settings.auto_compaction, Some(Retention::Revisions(1000)));
    assert_eq!(loaded.settings.quota_backend_bytes, Some(4 << 30));
    let remarks: Vec<_> = loaded.notices.iter().filter(|notice| matches!(notice, Notice::Remark { .. })).collect();
    assert_eq!(remarks.len(), loaded.notices.len(), "no warning: {:?}", loaded.notices);
    let told = format!("{remarks:?}");
    assert!(told.contains("ETCD_SNAPSHOT_COUNT") && told.contains("ETCD_QUOTA_BACKEND_BYTES"), "{told}");
}

#[test]
fn a_password_that_would_not_be_asked_for_is_refused() {
    for more in [&[][..], &[OPEN], &[("ETCD_ROOT_USER", "root")]] {
        let variables: Vec<_> = [("ETCD_ROOT_PASSWORD", "hunter2")].into_iter().chain(more.iter().copied()).collect();
        for file in [None, Some("name: a\n")] {
            let lines = Start { file, ..env(&variables) }.refused();
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(
                lines[0]["error"].as_str().unwrap().starts_with("ETCD_ROOT_PASSWORD is refused: users and passwords")
            );
            assert_eq!(lines[0]["setting"], "ETCD_ROOT_PASSWORD");
        }
    }
    let files = [("/p", "hunter2\n"), ("/empty", "")];
    let lines = Start { files: &files, ..env(&[("ETCD_ROOT_PASSWORD_FILE", "/p")]) }.refused();
    assert_eq!(lines[0]["setting"], "ETCD_ROOT_PASSWORD_FILE (/p)");
    Start { files: &files, ..env(&[("ETCD_ROOT_PASSWORD_FILE", "/empty"), OPEN]) }.run();
}

#[test]
fn nobody_starts_open_by_mistake_with_the_images_variables() {
    for variables in [
        &[("ALLOW_NONE_AUTHENTICATION", "no")][..],
        &[("ETCD_ON_K8S", "yes")],
        &[("ETCD_CFG_SNAPSHOT_COUNT", "5")],
        &[("ETCD_SNAPSHOTS_DIR", "/snapshots"), ("ETCD_CLUSTER_DOMAIN", "d")],
    ] {
        let lines = env(variables).refused();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let error = lines[0]["error"].as_str().unwrap();
        assert!(error.starts_with("neither ETCD_ROOT_PASSWORD nor ALLOW_NONE_AUTHENTICATION=yes is set"), "{error}");
        assert!(lines[0]["hint"].as_str().unwrap().starts_with("set ALLOW_NONE_AUTHENTICATION=yes"));
        assert!(lines[0]["setting"].as_str().unwrap().contains(variables.last().unwrap().0));
        for yes in ["yes", "YES", "true", "1"] {
            let allowed: Vec<_> =
                variables.iter().copied().filter(|(name, _)| *name != OPEN.0).chain([(OPEN.0, yes)]).collect();
            env(&allowed).run();
        }
    }
    // Who uses etcd's own image has none of them.
    env(&[("ETCD_NAME", "a"), ("ETCD_ROOT_USER", "root")]).run();
    let other = env(&[("ETCD_ROOT_USER", "admin")]).errors();
    assert_eq!(other, ["ETCD_ROOT_USER is refused: the user who may do everything is always called root"]);
}

#[test]
fn the_images_steps_around_the_server_are_told_or_refused() {
    for name in [
        "ETCD_ON_K8S",
        "ETCD_CLUSTER_DOMAIN",
        "ETCD_SNAPSHOTS_DIR",
        "ETCD_SNAPSHOT_HISTORY_LIMIT",
        "ETCD_INIT_SNAPSHOTS_DIR",
        "ETCD_INIT_SNAPSHOT_FILENAME",
        "ETCD_PREUPGRADE_START_DELAY",
        "ETCD_EXTRA_AUTH_FLAGS",
    ] {
        let notices = env(&[OPEN, (name, "1")]).run().notices;
        let is_told = |notice: &Notice| matches!(notice, Notice::Remark { setting, what } if setting == name && what.starts_with("has no effect: "));
        assert!(notices.iter().any(is_told), "{name}: {notices:?}");
    }
    for name in ["ETCD_START_FROM_SNAPSHOT", "ETCD_DISASTER_RECOVERY"] {
        env(&[OPEN, (name, "no")]).run();
        let line = &env(&[OPEN, (name, "yes")]).refused()[0];
        assert!(line["error"].as_str().unwrap().starts_with(&format!("{name} is refused: ")), "{line}");
        assert_eq!((&line["setting"], &line["value"]), (&Json::from(name), &Json::from("yes")));
    }
}

#[test]
fn the_images_variables_for_the_settings_file_are_read() {
    let variables = [
        OPEN,
        ("ETCD_CFG_MAX_TXN_OPS", "7"),
        ("ETCD_CFG_GRPC_KEEPALIVE_TIMEOUT", "7000000000"),
        ("ETCD_CFG_PRE_VOTE", "false"),
        ("ETCD_CFG_CUONT", "1"),
    ];
    let loaded = env(&variables).run();
    assert_eq!((loaded.settings.max_txn_ops, loaded.settings.pre_vote), (7, false));
    assert_eq!(loaded.settings.grpc_keepalive_timeout, Duration::from_secs(7));
    let unknown =
        |notice: &Notice| matches!(notice, Notice::UnknownVariable { variable, .. } if variable == "ETCD_CFG_CUONT");
    assert!(loaded.notices.iter().any(unknown), "{:?}", loaded.notices);
    for (name, flag) in [
        ("ETCD_CFG_CERT_FILE", "cert-file"),
        ("ETCD_CFG_CLIENT_CERT_AUTH", "client-cert-auth"),
        ("ETCD_CFG_CLIENT_CERT_FILE", "cert-file"),
        ("ETCD_CFG_PEER_CERT_FILE", "peer-cert-file"),
        ("ETCD_CFG_PEER_AUTO_TLS", "peer-auto-tls"),
    ] {
        let lines = env(&[OPEN, (name, "true")]).refused();
        assert!(lines[0]["error"].as_str().unwrap().starts_with(&format!("--{flag} is refused")), "{lines:?}");
        assert_eq!(lines[0]["setting"], name);
    }
    let twice = env(&[OPEN, ("ETCD_CFG_NAME", "a"), ("ETCD_NAME", "b")]).errors();
    assert_eq!(twice, ["ETCD_NAME and ETCD_CFG_NAME are one setting but differ"]);
    env(&[OPEN, ("ETCD_CFG_NAME", "a"), ("ETCD_NAME", "a")]).run();
    let bad = env(&[OPEN, ("ETCD_CFG_MAX_TXN_OPS", "x")]).errors();
    assert_eq!(bad, [r#"invalid value "x" for ETCD_CFG_MAX_TXN_OPS: parse error"#]);
    let conflict = Start { args: &["--name=a"], ..env(&[OPEN, ("ETCD_CFG_NAME", "a")]) }.refused();
    assert_eq!(conflict[0]["environment-variable"], "ETCD_CFG_NAME");
}

/// A file for the image publishes port 2379, mounts a volume at /bitnami/etcd, and says no more.
#[test]
fn the_images_defaults_hold_where_its_variables_are() {
    let volume = [("/proc/self/mountinfo", "1 2 254:1 / /bitnami/etcd rw - ext4 /dev/vda1 rw\n")];
    let settings = Start { files: &volume, ..env(&[OPEN]) }.run().settings;
    assert_eq!(settings.listen_client_urls[0].to_string(), "http://0.0.0.0:2379");
    assert_eq!(settings.advertise_client_urls[0].to_string(), "http://10.0.0.7:2379");
    assert_eq!(settings.listen_peer_urls[0].to_string(), "http://localhost:2380");
    assert_eq!(settings.data_dir, PathBuf::from("/bitnami/etcd/data"));
    assert_eq!(env(&[OPEN]).run().settings.data_dir, PathBuf::from("default.quorate"));

    // What is set counts, and need not be complete.
    let listen = ("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:5");
    let settings = env(&[OPEN, listen]).run().settings;
    assert_eq!(settings.advertise_client_urls[0].to_string(), "http://10.0.0.7:5");
    assert!(env(&[listen]).errors()[0].starts_with("--advertise-client-urls is required"));
    let settings = Start { files: &volume, ..env(&[OPEN, ("ETCD_DATA_DIR", "/d")]) }.run().settings;
    assert_eq!(settings.data_dir, PathBuf::from("/d"));

    // Without them, and in a settings file, etcd's defaults are in force.
    let settings = Start { files: &volume, ..Start::default() }.run().settings;
    assert_eq!(settings.listen_client_urls[0].to_string(), "http://localhost:2379");
    assert_eq!(settings.data_dir, PathBuf::from("default.quorate"));
    let settings = Start { file: Some("name: a"), files: &volume, ..env(&[OPEN]) }.run().settings;
    assert_eq!(settings.listen_client_urls[0].to_string(), "http://localhost:2379");
}

#[test]
fn a_file_makes_flags_and_variables_count_for_nothing() {
    let start = Start {
        args: &["--name=flag", "--data-dir=flag"],
        env: &[("ETCD_NAME", "variable"), ("ETCD_LOG_LEVEL", "nonsense")],
        file: Some("name: file\n"),
        ..Start::default()
    };
    let loaded = start.run();
    assert_eq!(loaded.settings.name, "file");
    assert_eq!(loaded.settings.data_dir, PathBuf::from("file.quorate"));
    let notices = format!("{:?}", loaded.notices);
    assert!(notices.contains("--name --data-dir ETCD_LOG_LEVEL ETCD_NAME"), "{notices}");

    let by_variable = Start { env: &[("ETCD_CONFIG_FILE", "etcd.yml")], ..Start::default() };
    assert_eq!(by_variable.errors(), ["open etcd.yml: no such file or directory"]);
    assert!(args(&["--config-file="]).run().notices.is_empty());
}

#[test]
fn the_file_takes_what_etcds_takes() {
    let settings = file(
        "# comment\n\
         NAME: m1\n\
         data-dir: /var/lib/etcd\n\
         heartbeat-interval: 200\n\
         election-timeout: '2000'\n\
         grpc-keepalive-timeout: 20000000000\n\
         grpc-keepalive-interval: 1h30m\n\
         quota-backend-bytes: null\n\
         listen-client-urls: http://127.0.0.1:1,unix:///run/etcd.sock\n\
         pre-vote: no\n\
         socket-options: {reuse-port: true}\n\
         log-outputs: [stdout, /tmp/a.log]\n\
         initial-cluster-state: ''\n\
         feature-gates: LeaseCheckpoint=true,LeaseCheckpointPersist=true\n\
         log-level: WARN\n",
    )
    .run();
    assert_eq!(settings.notices, [Notice::FileLoaded { path: "etcd.yml".to_string() }]);
    let settings = settings.settings;
    assert_eq!((settings.name.as_str(), settings.pre_vote, settings.socket_reuse_port), ("m1", false, true));
    assert_eq!(settings.grpc_keepalive_timeout, Duration::from_secs(20));
    assert_eq!(settings.grpc_keepalive_interval, Duration::from_secs(5400));
    assert_eq!(settings.listen_client_urls.len(), 2);
    assert_eq!(settings.advertise_client_urls[0].to_string(), "http://localhost:2379");
    assert_eq!(settings.log.outputs, [LogOutput::Stdout, LogOutput::File("/tmp/a.log".into())]);
    assert_eq!(settings.log.level, LogLevel::Warn);
    assert!(settings.lease_checkpoint && settings.lease_checkpoint_persist);
    assert_eq!(settings.initial_cluster_state, InitialClusterState::New);
    assert_eq!(file(r#"{"name": "json", "pre-vote": false}"#).run().settings.name, "json");
    assert_eq!(file("").run().settings.name, "default");
}

#[test]
fn faults_in_the_file_tell_their_place() {
    for (text, want) in [
        (
            "listen-client-urls: foo",
            "unexpected error setting up listen-client-urls: URL scheme must be http, https, unix, or unixs: foo",
        ),
        ("initial-cluster-state: foo", r#"unexpected clusterState "foo""#),
        ("name: a\nheartbeat-interval: abc\n", "invalid value for heartbeat-interval: parse error"),
        ("name: [1]", "etcd.yml:1:7: name must be one value, not a list"),
        ("name: {a: 1}", "etcd.yml:1:7: name must be one value, not a map"),
        ("socket-options: 1", "etcd.yml:1:17: socket-options must be a map of keys and values"),
        ("log-outputs: [[a]]", "etcd.yml:1:14: log-outputs must be a list of texts"),
        ("just text", "etcd.yml:1:1: the file must hold `key: value` lines"),
        ("- a\n- b\n", "etcd.yml:1:1: the file must hold `key: value` lines"),
    ] {
        assert_eq!(file(text).errors(), [want], "{text}");
    }
    let lines = file("name: a\nheartbeat-interval: abc\n").refused();
    assert_eq!(lines[0]["setting"], "heartbeat-interval in etcd.yml:2:21");
    assert_eq!(lines[0]["hint"], "write a whole number of at least 0");
    let error = &file("name: a\n\tfoo: b\n").errors()[0];
    assert!(error.starts_with("etcd.yml:2:1: this is neither YAML nor JSON") && error.contains("tab"), "{error}");
}

#[test]
fn odd_keys_in_the_file_are_told_and_passed_over() {
    for (text, want) in [
        ("bogus: {a: [1]}", "bogus in etcd.yml:1:1: unknown key, ignored"),
        ("snapshot-cuont: 1", "snapshot-cuont in etcd.yml:1:1: unknown key, ignored: did you mean snapshot-count?"),
        (
            "cert-file: a",
            "cert-file in etcd.yml:1:1: unknown key, ignored: in the file it is client-transport-security.cert-file",
        ),
        (
            "client-transport-security: {bogus: 1}",
            "client-transport-security.bogus in etcd.yml:1:29: unknown key, ignored",
        ),
        (
            "raft-read-timeout: 1",
            "raft-read-timeout in etcd.yml:1:1: unknown key, ignored: this can be set on the command line and in the environment only",
        ),
        (
            "  name: a\nlog-level: debug",
            "what follows etcd.yml:2:1: only the first document of the file is read; this has no effect",
        ),
        ("name: a\nname: b", "name in etcd.yml:2:1: the key stands twice; the one in line 1 has no effect"),
        (
            "grpc-keepalive-timeout: 20",
            "grpc-keepalive-timeout in etcd.yml:1:25: a bare number is nanoseconds: 20 is 20ns; write 20s for seconds",
        ),
    ] {
        let notices = file(text).run().notices;
        let told: Vec<_> = notices
            .iter()
            .filter_map(|notice| match notice {
                Notice::Setting { setting, what } => Some(format!("{setting}: {what}")),
                _ => None,
            })
            .collect();
        assert_eq!(told, [want]);
    }
    assert_eq!(file("name: a\nname: b").run().settings.name, "b");
    let same = file("name: a\nNAME: b").run();
    assert!(format!("{:?}", same.notices).contains("the key stands twice") && same.settings.name == "b");
}

#[test]
fn hostile_files_cost_an_error() {
    assert!(file(&"x".repeat(2 << 20)).errors()[0].contains("larger than"));
    assert_eq!(file(&"[".repeat(5000)).errors().len(), 1);
}

#[test]
fn help_version_and_syntax_errors_go_where_etcds_go() {
    let Outcome::Print { stdout, stderr, exit: 0 } = args(&["--help"]).load() else { panic!("help") };
    assert!(stdout.contains("--data-dir '${name}.quorate'") && stderr.starts_with("Usage:"));
    let Outcome::Print { stdout, stderr, exit: 0 } = args(&["--version"]).load() else { panic!("version") };
    assert!(stdout.starts_with("etcd Version: 3.5.30\nGit SHA: ") && stdout.lines().count() == 4 && stderr.is_empty());
    let Outcome::Print { stdout, stderr, exit: 2 } = args(&["--bogus", "--max-wals=x"]).load() else {
        panic!("syntax")
    };
    assert!(stdout.is_empty() && stderr.starts_with("flag provided but not defined: -bogus\ninvalid value \"x\""));
    assert!(stderr.contains("\nUsage:\n"));
}

#[test]
fn wildcard_listeners_are_advertised_by_their_address() {
    let settings = file("listen-client-urls: http://0.0.0.0:5\nlisten-peer-urls: http://0.0.0.0:6\n").run().settings;
    assert_eq!(settings.advertise_client_urls[0].to_string(), "http://10.0.0.7:5");
    assert_eq!(settings.initial_advertise_peer_urls[0].to_string(), "http://10.0.0.7:6");
    assert_eq!(settings.initial_cluster().unwrap().to_string(), "default=http://10.0.0.7:6");

    let unreachable =
        args(&["--listen-client-urls=http://0.0.0.0:5", "--advertise-client-urls=http://127.0.0.1:5"]).run();
    let told = |notice: &Notice| format!("{notice:?}").contains("cannot reach http://127.0.0.1:5");
    assert!(matches!(&unreachable.notices[..], [notice @ Notice::Remark { .. }] if told(notice)));
    let others = args(&[
        "--listen-client-urls=http://0.0.0.0:5",
        "--advertise-client-urls=http://127.0.0.1:5",
        "--initial-cluster=default=http://localhost:2380,b=http://b:2380",
    ]);
    assert!(matches!(&others.run().notices[..], [notice @ Notice::Setting { .. }] if told(notice)));
}

/// As an etcd 3.5.30 says it, where it knows the case.
#[test]
fn the_initial_cluster_has_etcds_texts() {
    for (given, want) in [
        (
            &["--name=q", "--initial-cluster=a=http://localhost:2380"][..],
            r#"couldn't find local name "q" in the initial cluster configuration"#,
        ),
        (
            &["--initial-cluster==http://localhost:2380"],
            r#"couldn't find local name "default" in the initial cluster configuration"#,
        ),
        (
            &["--initial-cluster=foo"],
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380/x"],
            "error setting up initial cluster: URL must not contain a path: http://localhost:2380/x",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,default=http://localhost:2380"],
            "initial cluster default=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=https://b:2380"],
            "initial cluster b=https://b:2380,default=http://localhost:2380 is refused: TLS between members comes later (https://b:2380)",
        ),
    ] {
        for state in ["new", "existing"] {
            let state = format!("--initial-cluster-state={state}");
            let given: Vec<&str> = given.iter().copied().chain([state.as_str()]).collect();
            let problem = args(&given).run().settings.initial_cluster().unwrap_err();
            assert_eq!(problem.error(), want);
            assert!(problem.field("hint").is_some());
        }
    }
}

#[test]
fn what_is_wrong_with_the_initial_cluster_tells_its_place_and_the_nearest_name() {
    let cluster = "--initial-cluster=etcd0=http://a:1,etcd1=http://b:1";
    let problem = args(&["--name=etcd2", cluster]).run().settings.initial_cluster().unwrap_err();
    assert_eq!(problem.field("setting"), Some("--initial-cluster"));
    let hint = r#"--initial-cluster has "etcd0" and "etcd1"; --name must be one of them; did you mean "etcd0"?"#;
    assert_eq!(problem.field("hint"), Some(hint));
    let by_file = file("initial-cluster: a=http://a:1\n").run().settings.initial_cluster().unwrap_err();
    assert_eq!(by_file.field("setting"), Some("initial-cluster in etcd.yml:1:18"));
}

#[test]
fn clusters_that_may_surprise_are_told() {
    let told = |given: &[&str]| {
        let settings = args(given).run().settings;
        let notices = settings.notes_on(&settings.initial_cluster().unwrap());
        notices.iter().map(|notice| format!("{notice:?}")).collect::<Vec<_>>()
    };
    let own = [
        "--initial-advertise-peer-urls=http://a:1",
        "--listen-client-urls=http://127.0.0.1:5",
        "--advertise-client-urls=http://a:5",
    ];
    let with = |cluster: &'static str| [&own[..], &["--name=a", cluster]].concat();
    assert_eq!(told(&[]), [""; 0]);
    assert_eq!(told(&with("--initial-cluster=a=http://a:1,b=http://b:1,c=http://c:1")), [""; 0]);
    let even = told(&with("--initial-cluster=a=http://a:1,b=http://b:1,c=http://c:1,d=http://d:1"));
    assert!(
        even.len() == 1 && even[0].contains("4 members go on while 1 of them are lost, which 3 would do too"),
        "{even:?}"
    );
    let copied = told(&with("--initial-cluster=a=http://a:1,a=http://b:1,c=http://c:1,d=http://d:1"));
    assert!(copied.len() == 1 && copied[0].contains("at a and b: that is one member"), "{copied:?}");
    // All on this machine: somebody tries it out.
    let local = "--initial-cluster=default=http://localhost:2380,b=http://127.0.0.1:2,c=http://[::1]:3";
    assert_eq!(told(&[local]), [""; 0]);
    for advertised in ["http://localhost:1", "http://0.0.0.0:1", "http://127.0.0.1:1"] {
        let peers = format!("--initial-advertise-peer-urls={advertised}");
        let cluster = format!("--initial-cluster=default={advertised},b=http://b:1,c=http://c:1");
        let notes = told(&[&peers, &cluster]);
        assert!(notes[0].contains("members on other machines cannot reach"), "{notes:?}");
        assert!(notes[1].contains("clients on other machines cannot reach http://localhost:2379"), "{notes:?}");
    }
}

#[test]
fn the_initial_cluster_is_read() {
    let given = [
        "--name=a",
        "--initial-cluster-token=t",
        "--initial-cluster=b=http://b:1,a=http://a:2,,a=unix:///a.sock,",
        "--initial-cluster-state=existing",
    ];
    let settings = args(&given).run().settings;
    let cluster = settings.initial_cluster().unwrap();
    assert_eq!((cluster.token.as_str(), cluster.members().len()), ("t", 2));
    assert_eq!(cluster.to_string(), "a=http://a:2,a=unix:///a.sock,b=http://b:1");
    assert_eq!(settings.initial_cluster_state, InitialClusterState::Existing);
}

#[test]
fn name_service_may_list_the_members() {
    let settings = args(&["--discovery-srv=example.org", "--discovery-srv-name=x"]).run().settings;
    let srv = DiscoverySrv { domain: "example.org".to_owned(), service_name: "x".to_owned() };
    assert_eq!(settings.discovery_srv, Some(srv));
    let both = args(&["--discovery-srv=example.org", "--initial-cluster=a=http://a:1"]).errors();
    assert!(both[0].starts_with("multiple discovery or bootstrap flags are set."), "{both:?}");
}

#[test]
fn a_discovery_service_is_asked_for_by_flags_and_by_file() {
    let seconds = Duration::from_secs;
    let want = DiscoveryRegistry {
        endpoints: vec!["a:1".to_owned(), "b:2".to_owned()],
        token: "t".to_owned(),
        user: Some(Credentials { name: "u".to_owned(), password: "p:q".to_owned() }),
        dial_timeout: seconds(1),
        request_timeout: seconds(3),
        keepalive_time: seconds(4),
        keepalive_timeout: seconds(5),
    };
    let flags = args(&[
        "--discovery-endpoints=a:1,http://b:2",
        "--discovery-token=t",
        "--discovery-user=u:p:q",
        "--discovery-dial-timeout=1s",
        "--discovery-request-timeout=3s",
        "--discovery-keepalive-time=4s",
        "--discovery-keepalive-timeout=5s",
    ]);
    assert_eq!(flags.run().settings.discovery_registry, Some(want.clone()));
    let text = "discovery-config:\n  token: t\n  client:\n    endpoints: ['a:1', 'http://b:2']\n    dial-timeout: 1s\n    \
                request-timeout: 3s\n    keepalive-time: 4s\n    keepalive-timeout: 5s\n    auth:\n      username: u\n      \
                password: p:q\n";
    let settings = file(text).run().settings;
    assert_eq!(settings.discovery_registry, Some(want));
    assert!(!format!("{settings:?}").contains("p:q"));
    assert_eq!(args(&[]).run().settings.discovery_registry, None);

    let existing =
        args(&["--discovery-endpoints=a:1", "--discovery-token=t", "--initial-cluster-state=existing"]).run().settings;
    assert_eq!(
        existing.initial_cluster().unwrap_err().error(),
        "discovery URL should not be set when joining existing initial cluster"
    );
}

#[test]
fn comparing_hashes_is_asked_for_by_old_names_and_new_ones() {
    let old = args(&[
        "--experimental-initial-corrupt-check",
        "--experimental-corrupt-check-time=5s",
        "--experimental-compact-hash-check-enabled",
        "--experimental-compact-hash-check-time=2s",
    ]);
    let new = args(&[
        "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true",
        "--corrupt-check-time=5s",
        "--compact-hash-check-time=2s",
    ]);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let checks = CorruptionChecks { initial: true, interval: seconds(5), compaction_interval: seconds(2) };
    assert_eq!(old.run().settings.corruption_checks, checks);
    assert_eq!(new.run().settings.corruption_checks, checks);
    assert_eq!(args(&["--compact-hash-check-time=2s"]).run().settings.corruption_checks.compaction_interval, None);
}

/// etcd 3.5.30 reads them so, too.
#[test]
fn retention_is_time_or_a_count_of_revisions() {
    let hours = |hours: u64| Some(Retention::Period(Duration::from_secs(hours * 3600)));
    for (mode, retention, want) in [
        ("periodic", "1", hours(1)),
        ("periodic", "+24", hours(24)),
        ("periodic", "36h", hours(36)),
        ("periodic", "1s", Some(Retention::Period(Duration::from_secs(1)))),
        ("revision", "1000", Some(Retention::Revisions(1000))),
        ("revision", "1us", Some(Retention::Revisions(1000))),
        ("revision", "0", None),
        ("revision", "0s", None),
        ("periodic", "0h", None),
        ("periodic", "00", None),
    ] {
        let mode = format!("--auto-compaction-mode={mode}");
        let loaded = args(&[&mode, &format!("--auto-compaction-retention={retention}")]).run();
        assert_eq!(loaded.settings.auto_compaction, want, "{mode} {retention}");
        let has_unit = retention.parse::<i64>().is_err();
        let is_told = want.is_some() && (mode.ends_with("periodic") && !has_unit || retention == "1us");
        assert_eq!(loaded.notices.len(), usize::from(is_told), "{:?}", loaded.notices);
    }
    let forgotten = args(&["--auto-compaction-retention=1000"]).run();
    assert!(format!("{:?}", forgotten.notices).contains("add --auto-compaction-mode=revision"));
    assert_eq!(args(&[]).run().settings.auto_compaction, None);
}

/// Without what they belong to, etcd 3.5 starts with them.
#[test]
fn values_that_concern_nothing_are_let_through() {
    assert_eq!(args(&["--auto-compaction-mode="]).run().notices, []);
    let loaded = args(&["--peer-cert-allowed-cn=a,b", "--peer-cert-allowed-hostname=c"]).run();
    assert_eq!(loaded.notices.len(), 2, "{:?}", loaded.notices);
}

#[test]
fn values_etcd_corrects_are_corrected() {
    let loaded = args(&["--raft-read-timeout=1s", "--raft-write-timeout=7s"]).run();
    let seconds = (loaded.settings.peer_read_timeout.as_secs(), loaded.settings.peer_write_timeout.as_secs());
    assert_eq!((seconds, loaded.notices.len()), ((5, 7), 1), "{:?}", loaded.notices);

    let loaded = args(&["--bcrypt-cost=99"]).run();
    assert!(format!("{:?}", loaded.notices).contains("use default bcrypt cost"));
    for zero in ["0", "0s", "0h", ""] {
        args(&[&format!("--auto-compaction-retention={zero}"), "--auto-compaction-mode=revision"]).run();
    }
    let large =
        args(&["--quota-backend-bytes=9999999999", "--max-request-bytes=20000000", "--max-concurrent-streams=65537"]);
    let large = large.run();
    assert_eq!(large.notices.len(), 4, "the quota exceeds the memory, too: {:?}", large.notices);
    assert_eq!(large.settings.max_concurrent_streams, 16_384);
}

#[test]
fn what_an_old_gate_lacks_is_told_in_its_own_name() {
    let starts = [
        args(&["--experimental-enable-lease-checkpoint-persist"]),
        Start { env: &[("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST", "true")], ..Start::default() },
        file("experimental-enable-lease-checkpoint-persist: true\n"),
    ];
    let settings = [
        "--experimental-enable-lease-checkpoint-persist",
        "ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST",
        "experimental-enable-lease-checkpoint-persist in etcd.yml:1:47",
    ];
    for (start, setting) in starts.into_iter().zip(settings) {
        let [line] = start.refused().try_into().expect("one problem");
        assert_eq!(
            line["error"],
            "setting experimental-enable-lease-checkpoint-persist requires experimental-enable-lease-checkpoint"
        );
        assert_eq!(line["setting"], setting);
        assert_eq!(line["hint"], "add --experimental-enable-lease-checkpoint, or leave it out");
    }
    let on = ["--experimental-enable-lease-checkpoint-persist", "--experimental-enable-lease-checkpoint"];
    assert!(args(&on).run().settings.lease_checkpoint_persist);
}

#[test]
fn gates_add_up_and_group_gates_reach_their_gates() {
    let both = args(&["--feature-gates=LeaseCheckpoint=true", "--feature-gates=LeaseCheckpointPersist=true"]).run();
    assert!(both.settings.lease_checkpoint && both.settings.lease_checkpoint_persist);
    let loaded = args(&["--feature-gates=AllBeta=false"]).run();
    assert_eq!(loaded.notices.len(), 2, "{:?}", loaded.notices);
    let errors = args(&["--feature-gates=AllAlpha=true,LeaseCheckpoint=false"]).errors();
    assert_eq!(errors, ["enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"]);
}

/// Holds the lines of a refusal against what each of them owes its reader.
fn says_where_and_what_to_write(start: Start<'_>) {
    let lines = start.refused();
    assert!(!lines.is_empty());
    for line in lines {
        let has = |field: &str| line[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(has("setting") || has("environment-variable"), "where? {line}");
        assert!(has("hint"), "what to write instead? {line}");
    }
}

#[test]
fn every_problem_says_where_it_was_found_and_what_to_write() {
    for flag in table::flags().filter(|flag| !matches!(flag.name, "config-file" | "check-config" | "version")) {
        let variable = flag.variable();
        for text in ["%%bad%%", "-1", "-5m", sample(flag)] {
            let start = [(variable.as_str(), text)];
            if let Outcome::Print { .. } = env(&start).load() {
                says_where_and_what_to_write(env(&start));
            }
        }
    }
    let variables: [&[(&str, &str)]; 20] = [
        &[("ETCD_NAME", "a"), ("ETCD_NAME_FILE", "x")],
        &[("ETCD_NAME_FILE", "missing")],
        &[("ETCD_CONFIG_FILE", "missing")],
        &[("ETCD_CONFIG_FILE_FILE", "missing")],
        &[("ETCD_MAX_TXN_OPS", "7"), ("ETCD_CFG_MAX_TXN_OPS", "8"), ("ALLOW_NONE_AUTHENTICATION", "yes")],
        &[("ETCD_ROOT_PASSWORD", "x"), ("ETCD_ROOT_USER", "x"), ("ETCD_DISASTER_RECOVERY", "yes")],
        &[("ALLOW_NONE_AUTHENTICATION", "maybe")],
        &[("ETCD_INITIAL_CLUSTER", "a=http://b:1")],
        &[("ETCD_INITIAL_CLUSTER", "default"), ("ETCD_DISCOVERY_SRV", "example.org")],
        &[("ETCD_DISCOVERY_ENDPOINTS", "a:1,,b:2"), ("ETCD_DISCOVERY_TOKEN", "x")],
        &[("ETCD_DISCOVERY_ENDPOINTS", "https://a:1"), ("ETCD_DISCOVERY_TOKEN", "x")],
        &[("ETCD_ENABLE_LOG_ROTATION", "true")],
        &[("ETCD_ENABLE_LOG_ROTATION", "true"), ("ETCD_LOG_OUTPUTS", "/x"), ("ETCD_LOG_ROTATION_CONFIG_JSON", "x")],
        &[("ETCD_LOG_OUTPUTS", "default,/x")],
        &[("ETCD_TLS_MIN_VERSION", "TLS1.3"), ("ETCD_TLS_MAX_VERSION", "TLS1.2"), ("ETCD_CIPHER_SUITES", "x")],
        &[("ETCD_LISTEN_CLIENT_HTTP_URLS", "http://localhost:2379")],
        &[("ETCD_LISTEN_CLIENT_URLS", "https://127.0.0.1:1"), ("ETCD_LISTEN_PEER_URLS", ",")],
        &[("ETCD_FEATURE_GATES", "CompactHashCheck=true"), ("ETCD_EXPERIMENTAL_COMPACT_HASH_CHECK_ENABLED", "true")],
        &[("ETCD_FEATURE_GATES", "LeaseCheckpointPersist=true,StopGRPCServiceOnDefrag=true")],
        &[("ETCD_ENABLE_V2", "true"), ("ETCD_V2_DEPRECATION", "gone")],
    ];
    for variables in variables {
        says_where_and_what_to_write(Start { args: &["--check-config"], ..env(variables) });
    }
    let files = [
        "- a",
        "name: {a: b}",
        "name: [a]",
        "listen-client-urls: [[a]]",
        "client-transport-security: a",
        "pre-vote: maybe",
        "cors: x",
        "initial-cluster-state: x",
        "a: [",
    ];
    files.into_iter().for_each(|text| says_where_and_what_to_write(file(text)));
}

#[test]
fn what_is_told_of_a_value_names_what_it_was_read_from() {
    let problems = env(&[("ETCD_INITIAL_CLUSTER", "default")]).load();
    assert!(matches!(problems, Outcome::Run(_)), "with data, the list means nothing");
    let start = Start { args: &["--check-config"], ..env(&[("ETCD_INITIAL_CLUSTER", "default")]) };
    let [line] = start.refused().try_into().expect("one problem");
    assert_eq!((&line["setting"], &line["value"]), (&"ETCD_INITIAL_CLUSTER".into(), &"default".into()));
    let [line] = env(&[("ETCD_CONFIG_FILE", "missing")]).refused().try_into().expect("one problem");
    assert_eq!(line["setting"], "ETCD_CONFIG_FILE");
    let files = [("/secret", "no")];
    let start = Start { files: &files, ..env(&[("ALLOW_NONE_AUTHENTICATION_FILE", "/secret")]) };
    let [line] = start.refused().try_into().expect("one problem");
    assert_eq!(line["setting"], "ALLOW_NONE_AUTHENTICATION_FILE (/secret)");
    let loaded = env(&[("ETCD_LOG_OUTPUTS", "/proc/none/log")]).run();
    let problem =
        crate::log::start(&loaded.settings.log, Arc::new(::env::SystemClock::default())).expect_err("no file");
    assert_eq!(problem.field("setting"), Some("ETCD_LOG_OUTPUTS"));
    let loaded = env(&[("ETCD_QUOTA_BACKEND_BYTES", "9999999999")]).run();
    let of = |notice: &Notice| match notice {
        Notice::Setting { setting, .. } | Notice::Remark { setting, .. } => setting.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(loaded.notices.iter().map(of).collect::<Vec<_>>(), ["ETCD_QUOTA_BACKEND_BYTES"; 2]);
}
