//! Turns `tracing` events into lines.

use std::fmt;
use std::sync::Arc;

use env::Clock;
use tracing::field::{Field as Key, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::line::{Field, Line};
use super::sink::Sink;
use super::{LogFormat, LogLevel};

/// Libraries whose lines below `warn` are of use to nobody who runs a server.
const CHATTY: [&str; 8] = ["h2", "hyper", "hyper_util", "mio", "raft", "redb", "tokio", "tonic"];

/// One output and the shape of its lines.
pub(super) struct Target {
    pub format: LogFormat,
    pub colour: bool,
    pub sink: Arc<Sink>,
}

pub(super) struct LogLayer {
    level: LogLevel,
    targets: Vec<Target>,
    clock: Arc<dyn Clock>,
}

impl LogLayer {
    pub(super) fn new(level: LogLevel, targets: Vec<Target>, clock: Arc<dyn Clock>) -> LogLayer {
        LogLayer { level, targets, clock }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        if *metadata.level() <= Level::ERROR {
            return true; // it may turn out to be fatal
        }
        let origin = metadata.target().split("::").next().unwrap_or_default();
        let chatter = *metadata.level() > Level::WARN && CHATTY.contains(&origin);
        !chatter && severity(*metadata.level()) >= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            LogLevel::Debug => LevelFilter::TRACE,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut found = Found::default();
        event.record(&mut found);
        let level = found.level.unwrap_or(severity(*metadata.level()));
        // A panic is the last that is heard of a thread, whatever the level.
        if level < self.level && level != LogLevel::Panic {
            return;
        }
        let caller = caller(metadata.file().unwrap_or(metadata.target()), metadata.line());
        let wall = self.clock.wall();
        let line = Line { level: level.name(), wall, caller: &caller, message: &found.message, fields: &found.fields };
        for target in &self.targets {
            target.sink.push(&target.render(&line), |lost| {
                let fields = [("count", Field::Bare(lost.to_string()))];
                let message = "log lines were dropped: the output did not take them";
                target.render(&Line { level: "warn", wall, caller: "log/layer.rs", message, fields: &fields })
            });
            if level >= LogLevel::Error {
                target.sink.flush();
            }
        }
    }
}

impl Target {
    fn render(&self, line: &Line<'_>) -> String {
        match self.format {
            LogFormat::Json => line.json(),
            LogFormat::Console => line.console(self.colour),
        }
    }
}

fn severity(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

/// `wal/segment.rs:10` for `crates/wal/src/segment.rs`, line 10.
fn caller(file: &str, line: Option<u32>) -> String {
    let short = match file.rsplit_once("/src/") {
        Some((before, after)) => {
            let package = before.rsplit('/').next().unwrap_or(before);
            format!("{package}/{after}")
        }
        None => file.to_string(),
    };
    match line {
        Some(line) => format!("{short}:{line}"),
        None => short,
    }
}

/// What an event holds.
#[derive(Default)]
struct Found {
    message: String,
    fields: Vec<(&'static str, Field)>,
    level: Option<LogLevel>,
}

impl Found {
    fn add(&mut self, key: &Key, value: Field) {
        self.fields.push((key.name(), value));
    }
}

impl Visit for Found {
    fn record_bool(&mut self, key: &Key, value: bool) {
        match key.name() {
            "fatal" if value => self.level = Some(LogLevel::Fatal),
            "panic" if value => self.level = Some(LogLevel::Panic),
            _ => self.add(key, Field::Bare(value.to_string())),
        }
    }

    fn record_i64(&mut self, key: &Key, value: i64) {
        self.add(key, Field::Bare(value.to_string()));
    }

    fn record_u64(&mut self, key: &Key, value: u64) {
        self.add(key, Field::Bare(value.to_string()));
    }

    fn record_f64(&mut self, key: &Key, value: f64) {
        let text = value.to_string();
        self.add(key, if value.is_finite() { Field::Bare(text) } else { Field::Text(text) });
    }

    fn record_str(&mut self, key: &Key, value: &str) {
        match key.name() {
            "message" => self.message = value.to_string(),
            _ => self.add(key, Field::Text(value.to_string())),
        }
    }

    fn record_debug(&mut self, key: &Key, value: &dyn fmt::Debug) {
        self.record_str(key, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> env::Monotonic {
            env::Monotonic::default()
        }

        fn wall(&self) -> Duration {
            Duration::from_secs(1)
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `body` logs at `level`, without its callers' line numbers.
    fn logged(level: LogLevel, body: impl FnOnce()) -> Vec<String> {
        let out = Shared::default();
        let sink = Sink::start(Box::new(out.clone()));
        let target = Target { format: LogFormat::Json, colour: false, sink: Arc::clone(&sink) };
        let layer = LogLayer::new(level, vec![target], Arc::new(Fixed));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), body);
        sink.flush();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        text.lines().map(String::from).collect()
    }

    #[test]
    fn events_become_lines_with_their_fields() {
        let lines = logged(LogLevel::Info, || {
            tracing::info!(count = 3u64, ok = true, "some-name" = "x", error = %"bad", "ready {}", 1);
            tracing::debug!("not this");
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with(
            "{\"level\":\"info\",\"ts\":\"1970-01-01T00:00:01.000000Z\",\"caller\":\"config/log/layer.rs:"
        ));
        assert!(
            lines[0].ends_with("\",\"msg\":\"ready 1\",\"count\":3,\"ok\":true,\"some-name\":\"x\",\"error\":\"bad\"}")
        );
    }

    #[test]
    fn fatal_and_panic_are_levels_of_their_own() {
        let all = || {
            tracing::error!("e");
            tracing::error!(panic = true, "p");
            tracing::error!(fatal = true, "f");
        };
        let levels = |lines: Vec<String>| -> Vec<String> {
            lines.iter().map(|line| line.split('"').nth(3).unwrap().to_string()).collect()
        };
        assert_eq!(levels(logged(LogLevel::Warn, all)), ["error", "panic", "fatal"]);
        assert_eq!(levels(logged(LogLevel::Fatal, all)), ["panic", "fatal"]);
    }

    #[test]
    fn libraries_are_heard_from_warn_on() {
        let lines = logged(LogLevel::Debug, || {
            tracing::debug!(target: "h2::codec", "frame");
            tracing::warn!(target: "h2::codec", "odd frame");
            tracing::debug!("ours");
        });
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn callers_are_short() {
        assert_eq!(caller("crates/wal/src/segment.rs", Some(10)), "wal/segment.rs:10");
        assert_eq!(caller("/x/registry/src/index/h2-0.4.20/src/lib.rs", None), "h2-0.4.20/lib.rs");
        assert_eq!(caller("build.rs", Some(1)), "build.rs:1");
    }
}
