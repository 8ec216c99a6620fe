//! Scripts of `etcdctl` commands with their expected output, for `etcdctl` and `quoratectl`.
//!
//! A script is text. Lines that begin with a mark are input, what follows is the output expected of it:
//!
//! | line | does |
//! |---|---|
//! | `> put k v` | runs `etcdctl put k v`; a word may stand in quotes of either kind; variables may come first |
//! | `\| text` | after a command: a line for its standard input |
//! | `& watch k` | starts a command that goes on by itself |
//! | `&4` | waits for 4 lines of its output |
//! | `&< text` | writes a line to its standard input; `&<` alone ends that |
//! | `&!` | interrupts it (SIGINT) and waits for its end |
//! | `&.` | waits for its end |
//! | `# text` | is a comment |
//!
//! Standard error comes after standard output, each line marked `err: `; an exit code other than 0 as `exit: N`.
//! `$LEASE` and `$MEMBER` stand for the id of the last lease granted and of the member, `$ADDED` for that of the member
//! added last, `$ENDPOINT` for the member's address, at which the command looks unless it says otherwise. What no two runs share is
//! replaced: ids by `<id>`, the address by `<endpoint>`, times and sizes by `<n>`. What the tools print differently by
//! intention is made the same in [`settle`].
//!
//! `E2E_UPDATE=1` writes what etcd really prints back into the script.

mod settle;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::StatusRequest;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::{Member, Target, Tool};

/// No command takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// What one command of `tool` with this standard input prints, as a script would have it.
///
/// # Errors
/// If it cannot be run, or goes on for too long.
pub async fn run_ctl(tool: Tool, member: &Member, command: &str, input: &str) -> Result<String> {
    Session::new(tool, member).await?.foreground(command, input).await
}

/// What one command of `tool` writes to standard output, byte by byte.
///
/// # Errors
/// If it fails.
pub async fn ctl_output(tool: Tool, member: &Member, command: &str, input: &str) -> Result<Vec<u8>> {
    let output = Session::new(tool, member).await?.output(command, input).await?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Runs the script at `path` with `tool` against a fresh member and compares.
///
/// # Errors
/// If the output differs anywhere.
pub async fn run_ctl_script(tool: Tool, target: Target, path: &Path) -> Result<()> {
    let script = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let member = Member::start(target).await?;
    let mut session = Session::new(tool, &member).await?;
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
    if std::env::var_os("E2E_UPDATE").is_some() && (tool, target) == (Tool::Etcdctl, Target::Etcd) {
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

/// Runs the commands of the page at `path` (lines `$ quoratectl ...` in its `console` blocks) one after the other against
/// a fresh member, and compares what they print with what follows them there. Exit codes are not in a page.
///
/// # Errors
/// If anything differs.
pub async fn run_ctl_page(tool: Tool, target: Target, path: &Path) -> Result<()> {
    let page = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let member = Member::start(target).await?;
    let mut session = Session::new(tool, &member).await?;
    let blocks = page.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    let mut count = 0;
    for command in blocks.flat_map(|block| block.split("$ quoratectl ").skip(1)) {
        let (command, expected) = command.split_once('\n').context("a command is a line")?;
        let output = session.foreground(command, "").await.with_context(|| format!("at `{command}`"))?;
        let output: String = output
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("exit: "))
            .collect::<String>()
            .replace("err: ", "");
        // The page has the addresses that a reader has.
        let expected =
            expected.replace("127.0.0.1:2379", &session.endpoint).replace("127.0.0.1:", &format!("{}:", session.host));
        let expected = session.settled(&expected);
        let ports = |text: &str| text.replace(":2380", ":<port>");
        ensure!(ports(&output) == ports(&expected), "`{command}` prints\n{output}and not\n{expected}");
        count += 1;
    }
    ensure!(count > 0, "the page has no commands");
    Ok(())
}

fn is_input(line: &str) -> bool {
    line.starts_with(['>', '&', '#'])
}

/// One member and the command that goes on in the background.
struct Session {
    tool: Tool,
    endpoint: String,
    host: String,
    member: String,
    lease: String,
    added: String,
    background: Option<(Child, Lines<BufReader<ChildStdout>>)>,
}

impl Session {
    async fn new(tool: Tool, member: &Member) -> Result<Session> {
        let id = member.status(StatusRequest {}).await?.leader;
        let endpoint = member.address().to_string();
        let host = member.address().ip().to_string();
        let (lease, added) = (String::new(), String::new());
        Ok(Session { tool, endpoint, host, member: format!("{id:x}"), lease, added, background: None })
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
            ("&", rest) if rest.starts_with('<') => self.background_input(rest[1..].trim()).await,
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
        let command = command.replace("$LEASE", &self.lease).replace("$MEMBER", &self.member);
        let words = words(&command.replace("$ADDED", &self.added).replace("$ENDPOINT", &self.endpoint));
        let is_variable = |word: &String| word.starts_with("ETCDCTL_") && word.contains('=');
        let variables = words.iter().take_while(|word| is_variable(word)).count();
        let (variables, words) = words.split_at(variables);
        // Whoever runs the tests in the background of a shell has them ignore the signal that ends some commands.
        let mut ctl = Command::new("env");
        ctl.arg("--default-signal=INT").arg(self.tool.program()?);
        if !command.contains("ENDPOINTS=") && !command.contains("--endpoints") {
            ctl.arg("--endpoints").arg(&self.endpoint);
        }
        ctl.args(words).env_clear().env("PATH", "/usr/bin:/bin");
        ctl.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
        ctl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(ctl.spawn()?)
    }

    async fn output(&self, command: &str, input: &str) -> Result<Output> {
        let mut child = self.spawn(command)?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        // Who needs no input may have ended before it came.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        Ok(timeout(LIMIT, child.wait_with_output()).await.context("the command goes on")??)
    }

    async fn foreground(&mut self, command: &str, input: &str) -> Result<String> {
        let output = self.output(command, input).await?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        if let Some(id) = stdout.strip_prefix("lease ").and_then(|rest| rest.get(..16)) {
            self.lease = id.to_owned();
        }
        if let Some((id, _)) = stdout.strip_prefix("Member ").and_then(|rest| rest.split_once(" added")) {
            self.added = id.trim().to_owned();
        }
        let mut shown = self.settled(&stdout);
        shown.push_str(&self.shown_end(&String::from_utf8_lossy(&output.stderr), output.status.code()));
        Ok(shown)
    }

    /// Writes a line to the standard input of what goes on in the background, or ends it.
    async fn background_input(&mut self, line: &str) -> Result<String> {
        let (child, _) = self.background.as_mut().context("nothing goes on in the background")?;
        match line {
            "" => drop(child.stdin.take()),
            line => {
                let stdin = child.stdin.as_mut().context("its standard input has ended")?;
                stdin.write_all(format!("{line}\n").as_bytes()).await?;
            }
        }
        Ok(String::new())
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

    /// Standard error and the exit code.
    fn shown_end(&self, errors: &str, code: Option<i32>) -> String {
        let mut shown = String::new();
        for line in settle::errors(errors) {
            shown.push_str(&format!("err: {}", self.settled(&line)));
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
        for line in settle::without_help(output).lines() {
            let line = line.replace(&self.endpoint, "<endpoint>").replace(&self.host, "<host>");
            settled.push_str(&settle::settled(&line));
            settled.push('\n');
        }
        settle::in_order(&settled)
    }
}

/// The words of a command line; quotes of either kind hold one together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
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
        assert_eq!(words("lock l -- sh -c 'echo \"$X\"'"), ["lock", "l", "--", "sh", "-c", "echo \"$X\""]);
    }
}
