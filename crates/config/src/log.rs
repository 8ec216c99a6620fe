//! The log: which lines, in which shape, where to.
//!
//! Lines are etcd's (zap's) JSON, for machines, or text, for people. An event's level is that of `tracing`, except that
//! a field `fatal = true` or `panic = true` on an error makes it one of those, as etcd has them.
//!
//! Invariants
//! - Whoever logs never waits for a terminal, pipe or disk that has stopped taking bytes, save up to a second for
//!   errors, which may be the last words.
//! - What cannot be written is counted and told, and never a panic.

mod layer;
mod line;
mod sink;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Clock, PanicFate};
use tracing_subscriber::layer::SubscriberExt;
use types::go_quote;

pub(crate) use line::{Field, Line};

use crate::problem::{Problem, reason};
use layer::{LogLayer, Target};
use sink::Sink;

/// The least severe lines to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object with `level`, `ts`, `caller`, `msg` and the fields.
    Json,
    /// Text for people.
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    /// Appended to; made with mode 0600 if absent.
    File(PathBuf),
}

/// What the operator wants of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: LogLevel,
    /// `None`: text on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    pub outputs: Vec<LogOutput>,
    /// What they are called where they were read: `--log-outputs`, `ETCD_LOG_OUTPUTS`.
    pub outputs_setting: String,
    /// Whether text on a terminal may be coloured.
    pub colour: bool,
}

/// Keeps the log going; dropping it writes out what waits.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Logging {
    sinks: Vec<Arc<Sink>>,
}

impl Logging {
    /// Waits, up to a second, until all that was logged is written. To be called before the process exits.
    pub fn flush(&self) {
        for sink in &self.sinks {
            sink.flush();
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        for sink in &self.sinks {
            sink.close();
        }
    }
}

/// Opens the outputs and takes all `tracing` events of the process from now on; panics become lines too.
///
/// # Errors
/// If a log file cannot be opened.
///
/// # Panics
/// If the log was started before.
pub fn start(settings: &LogSettings, clock: Arc<dyn Clock>) -> Result<Logging, Problem> {
    let mut targets = Vec::new();
    for output in &settings.outputs {
        let (out, terminal): (Box<dyn Write + Send>, bool) = match output {
            LogOutput::Stderr => (Box::new(io::stderr()), io::stderr().is_terminal()),
            LogOutput::Stdout => (Box::new(io::stdout()), io::stdout().is_terminal()),
            LogOutput::File(path) => (open_file(path, settings)?, false),
        };
        let format = settings.format.unwrap_or(if terminal { LogFormat::Console } else { LogFormat::Json });
        targets.push(Target { format, colour: terminal && settings.colour, sink: Sink::start(out) });
    }
    let sinks: Vec<_> = targets.iter().map(|target| Arc::clone(&target.sink)).collect();
    let layer = LogLayer::new(settings.level, targets, clock);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("the log is started once");
    log_panics(sinks.clone());
    Ok(Logging { sinks })
}

#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a log file is appended to, which no Disk does")]
fn open_file(path: &Path, settings: &LogSettings) -> Result<Box<dyn Write + Send>, Problem> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let failed = |error| {
        Problem::new(format!("--log-outputs: open {}: {}", path.display(), reason(&error)))
            .found(settings.outputs_setting.clone())
            .hint("write stderr, stdout or the path of a file that may be written")
    };
    Ok(Box::new(file.map_err(failed)?))
}

/// A panic ends the process, once it is told: what the thread had begun is half done, and others may wait for it. The log
/// on disk holds all that was acknowledged.
fn log_panics(sinks: Vec<Arc<Sink>>) {
    std::panic::set_hook(Box::new(move |panic| {
        let doubled = match env::panic_fate(panic) {
            PanicFate::Caught => return,
            PanicFate::Uncaught => None,
            PanicFate::Doubled(first) => Some(first),
        };
        let text = env::hook_text(panic);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        match doubled {
            None => tracing::error!(panic = true, thread, "{text}"),
            Some(first) => tracing::error!(
                panic = true,
                thread,
                first,
                "{text}; while a panic of the state file's library was made an error of; if this comes again after a restart the \
                 state file is damaged: remove this member and add it again"
            ),
        }
        for sink in &sinks {
            sink.flush();
        }
        std::process::abort();
    }));
}

impl LogLevel {
    /// Reads a level's name, in small letters or capitals; nothing is `info`.
    ///
    /// # Errors
    /// etcd's text for a name that is none.
    pub(crate) fn parse(text: &str) -> Result<LogLevel, String> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(LogLevel::Debug),
            "info" | "" => Ok(LogLevel::Info),
            "warn" => Ok(LogLevel::Warn),
            "error" => Ok(LogLevel::Error),
            "panic" | "dpanic" => Ok(LogLevel::Panic),
            "fatal" => Ok(LogLevel::Fatal),
            _ => Err(format!("unrecognized level: {}", go_quote(text))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Panic => "panic",
            LogLevel::Fatal => "fatal",
        }
    }
}
