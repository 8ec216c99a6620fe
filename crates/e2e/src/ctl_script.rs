//! Scripts of `etcdctl` commands with their expected output.
//!
//! A script is text. Lines that begin with a mark are input, what follows is the output expected of it:
//!
//! | line | does |
//! |---|---|
//! | `> put k v` | runs `etcdctl put k v`; a word may stand in double quotes |
//! | `\| text` | after a command: a line for its standard input |
//! | `& watch k` | starts a command that goes on by itself |
//! | `&4` | waits for 4 lines of its output |
//! | `&!` | interrupts it (SIGINT) and waits for its end |
//! | `&.` | waits for its end |
//! | `# text` | is a comment |
//!
//! Standard error comes after standard output, each line marked `err: `; an exit code other than 0 as `exit: N`.
//! `$LEASE` and `$MEMBER` stand for the id of the last lease granted and of the member. What no two runs share is
//! replaced: ids by `<id>`, the address by `<endpoint>`, times and sizes by `<n>`.
//!
//! `E2E_UPDATE=1` writes what etcd really prints back into the script.

mod settle;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::StatusRequest;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::target::etcd_program;
use crate::{Member, Target};

/// No command takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// What one command of `etcdctl` with this standard input prints, as a script would have it.
///
/// # Errors
/// If it cannot be run, or goes on for too long.
pub async fn run_ctl(member: &Member, command: &str, input: &str) -> Result<String> {
    Session::new(member).await?.foreground(command, input).await
}

/// Runs the script at `path` against a fresh member and compares.
///
/// # Errors
/// If the output differs anywhere.
pub async fn run_ctl_script(target: Target, path: &Path) -> Result<()> {
    let script = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let member = Member::start(target).await?;
    let mut session = Session::new(&member).await?;
    let mut transcript = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        if !is_input(line) {
            continue;
        }
        writeln!(transcript, "{line}")?;
        let mut input = String::new();
        while let Some(text) = lines.next_if(|next| next.starts_with('|')) {
            writeln!(transcript, "{text}")?;
            writeln!(input, "{}", text[1..].strip_prefix(' ').unwrap_or(&text[1..]))?;
        }
        let output = session.run(line, &input).await.with_context(|| format!("at `{line}`"))?;
        transcript.push_str(&output);
    }
    if std::env::var_os("E2E_UPDATE").is_some() && target == Target::Etcd {
        return Ok(fs::write(path, transcript)?);
    }
    let difference = script.lines().zip(transcript.lines()).position(|(expected, found)| expected != found);
    let at = difference.unwrap_or_else(|| script.lines().count().min(transcript.lines().count()));
    let expected = script.lines().nth(at);
    let found = transcript.lines().nth(at);
    ensure!(
        expected == found,
        "{}:{}\n expected: {}\n    found: {}\nall of it:\n{transcript}",
        path.display(),
        at + 1,
        expected.unwrap_or("the end"),
        found.unwrap_or("the end"),
    );
    Ok(())
}

fn is_input(line: &str) -> bool {
    line.starts_with(['>', '&', '#'])
}

/// One member and the command that goes on in the background.
struct Session {
    endpoint: String,
    host: String,
    member: String,
    lease: String,
    background: Option<(Child, Lines<BufReader<ChildStdout>>)>,
}

impl Session {
    async fn new(member: &Member) -> Result<Session> {
        let id = member.status(StatusRequest {}).await?.leader;
        let endpoint = member.address().to_string();
        let host = member.address().ip().to_string();
        Ok(Session { endpoint, host, member: format!("{id:x}"), lease: String::new(), background: None })
    }

    async fn run(&mut self, line: &str, input: &str) -> Result<String> {
        let (mark, rest) = line.split_at(1);
        match (mark, rest.trim()) {
            (">", command) => self.foreground(command, input).await,
            ("&", "!") => {
                self.interrupt()?;
                self.background_end().await
            }
            ("&", ".") => self.background_end().await,
            ("&", rest) => match rest.parse::<usize>() {
                Ok(count) => self.background_lines(count).await,
                Err(_) => {
                    let mut child = self.spawn(rest)?;
                    let output = child.stdout.take().context("standard output is a pipe")?;
                    self.background = Some((child, BufReader::new(output).lines()));
                    Ok(String::new())
                }
            },
            _ => Ok(String::new()),
        }
    }

    fn spawn(&self, command: &str) -> Result<Child> {
        let words = words(&command.replace("$LEASE", &self.lease).replace("$MEMBER", &self.member));
        // Whoever runs the tests in the background of a shell has them ignore the signal that ends some commands.
        let mut etcdctl = Command::new("env");
        etcdctl.arg("--default-signal=INT").arg(etcd_program("etcdctl")?);
        etcdctl.arg("--endpoints").arg(&self.endpoint).args(words).env_clear().env("PATH", "/usr/bin:/bin");
        etcdctl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(etcdctl.spawn()?)
    }

    async fn foreground(&mut self, command: &str, input: &str) -> Result<String> {
        let mut child = self.spawn(command)?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = timeout(LIMIT, child.wait_with_output()).await.context("the command goes on")??;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if let Some(id) = stdout.strip_prefix("lease ").and_then(|rest| rest.get(..16)) {
            self.lease = id.to_owned();
        }
        let mut shown = self.settled(&stdout);
        shown.push_str(&self.shown_end(&String::from_utf8_lossy(&output.stderr), output.status.code()));
        Ok(shown)
    }

    async fn background_lines(&mut self, count: usize) -> Result<String> {
        let (_, lines) = self.background.as_mut().context("nothing goes on in the background")?;
        let mut output = String::new();
        for _ in 0..count {
            let line = timeout(LIMIT, lines.next_line()).await.context("no line came")??;
            writeln!(output, "{}", line.context("the command ended")?)?;
        }
        Ok(self.settled(&output))
    }

    fn interrupt(&mut self) -> Result<()> {
        let (child, _) = self.background.as_mut().context("nothing goes on in the background")?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it runs")?;
        Ok(kill_process(id, Signal::INT)?)
    }

    async fn background_end(&mut self) -> Result<String> {
        let (mut child, mut lines) = self.background.take().context("nothing goes on in the background")?;
        let mut output = String::new();
        while let Some(line) = timeout(LIMIT, lines.next_line()).await.context("the command goes on")?? {
            writeln!(output, "{line}")?;
        }
        let status = timeout(LIMIT, child.wait()).await.context("the command goes on")??;
        let mut errors = String::new();
        child.stderr.take().context("standard error is a pipe")?.read_to_string(&mut errors).await?;
        Ok(self.settled(&output) + &self.shown_end(&errors, status.code()))
    }

    /// Standard error without the client library's log, and the exit code.
    fn shown_end(&self, errors: &str, code: Option<i32>) -> String {
        let mut shown = String::new();
        for line in errors.lines().filter(|line| !line.starts_with("{\"level\"")) {
            shown.push_str(&format!("err: {}", self.settled(line)));
        }
        match code {
            Some(0) => (),
            Some(code) => shown.push_str(&format!("exit: {code}\n")),
            None => shown.push_str("exit: by a signal\n"),
        }
        shown
    }

    /// `output` with what differs from run to run replaced.
    fn settled(&self, output: &str) -> String {
        let mut settled = String::new();
        for line in output.lines() {
            let line = line.replace(&self.endpoint, "<endpoint>").replace(&self.host, "<host>");
            settled.push_str(&settle::settled(&line));
            settled.push('\n');
        }
        settled
    }
}

/// The words of a command line; double quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_held_together_by_quotes() {
        assert_eq!(words("put \"a b\" c"), ["put", "a b", "c"]);
        assert_eq!(words("get \"\""), ["get", ""]);
    }
}
