//! Flags of what the server tells about itself.

use crate::flag::{Flag, Kind::*};

const TRACING: &str = "distributed tracing comes later";
const ROTATION: &str = "turning over log files comes later; let logrotate (copytruncate) or the service manager do it";

#[rustfmt::skip] // one row is one flag
pub(super) static MONITORING: &[Flag] = &[
    Flag::new("enable-pprof", Bool, "false",
        "Serve profiles under /debug/pprof/").refused("profiles come later"),
    Flag::new("metrics", Text, "basic",
        "How much /metrics tells: `basic` or `extensive`, which adds how long gRPC calls take; any other text means `basic`"),
    Flag::new("enable-distributed-tracing", Bool, "false",
        "Send traces by OTLP").of("3.6+").refused(TRACING),
    Flag::new("distributed-tracing-address", Text, "localhost:4317",
        "Where to send traces").of("3.6+").refused(TRACING),
    Flag::new("distributed-tracing-service-name", Text, "etcd",
        "The service name in traces").of("3.6+").refused(TRACING),
    Flag::new("distributed-tracing-instance-id", Text, "",
        "The instance id in traces").of("3.6+").refused(TRACING),
    Flag::new("distributed-tracing-sampling-rate", Int, "0",
        "How many of a million requests to trace").of("3.6+").refused(TRACING),
];

#[rustfmt::skip]
pub(super) static LOGGING: &[Flag] = &[
    Flag::new("logger", Text, "zap",
        "The logger; `zap`, etcd's, is the only name there is"),
    Flag::new("log-outputs", List, "default",
        "Where to log: `default` and `stderr` are the same, `stdout`, or paths of files"),
    Flag::new("log-level", Level, "info",
        "The least to log: debug, info, warn, error, panic or fatal"),
    Flag::new("log-format", Text, "",
        "`json` or `console`; empty means text on a terminal and JSON elsewhere").of("3.6+"),
    Flag::new("enable-log-rotation", Bool, "false",
        "Turn over the log file by size or age").refused(ROTATION),
    Flag::new("log-rotation-config-json", Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When to turn over the log file, as JSON").refused(ROTATION),
];
