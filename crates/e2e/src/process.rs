//! A child process whose output is kept and which dies with its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::run;

/// How much of a process' output is shown when a test fails.
const SHOWN_LINES: usize = 20;

/// How much of one line is shown.
const SHOWN_CHARS: usize = 240;

/// A running server. Dropping it kills it and leaves its output for the report of a failing test.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `program`; its output is appended to the file `output`.
    ///
    /// # Errors
    /// If the file cannot be opened or the program not be started.
    pub fn start(name: &str, program: &Path, arguments: &[String], output: &Path) -> Result<Process> {
        Process::start_in(name, program, arguments, &[], output)
    }

    /// As [`Process::start`], with these variables besides those of the test itself, of which those of etcd are left out.
    ///
    /// # Errors
    /// If the file cannot be opened or the program not be started.
    pub fn start_in(
        name: &str,
        program: &Path,
        arguments: &[String],
        variables: &[(String, String)],
        output: &Path,
    ) -> Result<Process> {
        let log = File::options().create(true).append(true).open(output)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ETCD_") {
                command.env_remove(name);
            }
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Process { name: name.to_owned(), child, output: output.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process is no more.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits until the process exits by itself.
    ///
    /// # Errors
    /// If it still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} still runs after {limit:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Lets it open no more than `count` files and sockets from now on.
    pub fn limit_open_files(&self, count: u64) -> Result<()> {
        let limit = Rlimit { current: Some(count), maximum: Some(count) };
        prlimit(Some(self.pid()?), Resource::Nofile, limit)?;
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.child.id().cast_signed()).context("a process id is positive")
    }

    /// All it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.output).map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a process that cannot be killed; the next test would tell.
        self.child.kill().ok();
        self.child.wait().ok();
        let output = self.output();
        let lines: Vec<String> = output.lines().map(|line| line.chars().take(SHOWN_CHARS).collect()).collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        run::keep_for_report(format!("--- the last output of {} ---\n{shown}", self.name));
    }
}
