//! One log line.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::LogFormat;

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Text(String),
    /// A number or a boolean, as written.
    Bare(String),
}

/// What a line says, before it has a shape.
pub(crate) struct Line<'a> {
    pub level: &'static str,
    /// Since the Unix epoch.
    pub wall: Duration,
    pub caller: &'a str,
    pub message: &'a str,
    pub fields: &'a [(&'static str, Field)],
}

impl Line<'_> {
    /// The line in `format`, without colours, with its end.
    pub(crate) fn render(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Json => self.json(),
            LogFormat::Console => self.console(false),
        }
    }

    /// As zap writes it: keys in this order, times in UTC with microseconds.
    pub(crate) fn json(&self) -> String {
        let mut out = String::with_capacity(160);
        let _ = write!(out, "{{\"level\":\"{}\",\"ts\":\"{}\",\"caller\":", self.level, timestamp(self.wall, 6));
        put_json_text(&mut out, self.caller);
        out.push_str(",\"msg\":");
        put_json_text(&mut out, self.message);
        for (key, value) in self.fields {
            out.push(',');
            put_json_text(&mut out, key);
            out.push(':');
            match value {
                Field::Text(text) => put_json_text(&mut out, text),
                Field::Bare(text) => out.push_str(text),
            }
        }
        out.push_str("}\n");
        out
    }

    /// For people: time, level, message, then the fields as `key=value`.
    pub(crate) fn console(&self, colour: bool) -> String {
        let (paint, dim, plain) = match (colour, self.level) {
            (false, _) => ("", "", ""),
            (true, "debug") => ("\x1b[34m", "\x1b[2m", "\x1b[0m"),
            (true, "info") => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
            (true, "warn") => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
            (true, _) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
        };
        let level = self.level.to_ascii_uppercase();
        let mut out = format!("{dim}{}{plain} {paint}{level:<5}{plain} ", timestamp(self.wall, 3));
        put_visible(&mut out, self.message);
        for (key, value) in self.fields {
            let _ = write!(out, "  {dim}{key}={plain}");
            match value {
                Field::Text(text) if needs_quotes(text) => put_json_text(&mut out, text),
                Field::Text(text) | Field::Bare(text) => out.push_str(text),
            }
        }
        out.push('\n');
        out
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == '=')
}

/// Text on one line, and without a chance for what it quotes to steer the terminal.
fn put_visible(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

fn put_json_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `2026-11-21T01:25:36.083684Z`, with `digits` (at most 9) after the point. A clock beyond the year 9999 shows its end.
pub(crate) fn timestamp(wall: Duration, digits: usize) -> String {
    let since = SignedDuration::try_from(wall).unwrap_or(SignedDuration::MAX);
    let timestamp = Timestamp::from_duration(since).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(message: &'a str, fields: &'a [(&'static str, Field)]) -> Line<'a> {
        let wall = Duration::new(1_795_224_336, 83_684_000);
        Line { level: "info", wall, caller: "config/log.rs:12", message, fields }
    }

    #[test]
    fn json_has_zaps_shape() {
        let fields = [("n", Field::Bare("5".into())), ("text", Field::Text("a \"b\"\n\x1b".into()))];
        assert_eq!(
            line("ready", &fields).json(),
            "{\"level\":\"info\",\"ts\":\"2026-11-21T01:25:36.083684Z\",\"caller\":\"config/log.rs:12\",\
             \"msg\":\"ready\",\"n\":5,\"text\":\"a \\\"b\\\"\\n\\u001b\"}\n"
        );
    }

    #[test]
    fn console_is_for_people() {
        let fields = [("n", Field::Bare("5".into())), ("url", Field::Text("a b".into()))];
        assert_eq!(
            line("rea\x1bdy", &fields).console(false),
            "2026-11-21T01:25:36.083Z INFO  rea\\u{1b}dy  n=5  url=\"a b\"\n"
        );
        assert!(line("x", &[]).console(true).contains("\x1b[32mINFO"));
    }

    #[test]
    fn dates_are_right() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds), 3), want);
        }
    }
}
