//! A place for a Quorate member whose surroundings the test chooses: any flags, a program in front of it, a directory
//! in any state. For members that are to start, fail and be kept from starting; all others are a [`crate::Member`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use testkit::grpc::Client;

use crate::address::{self, Addresses};
use crate::{Process, Target, request};

/// How long a start, or what takes its place, may take.
const START_LIMIT: Duration = Duration::from_secs(20);

/// An empty directory and addresses that nobody else uses.
#[derive(Debug)]
pub struct Ground {
    addresses: Addresses,
    starts: AtomicU32,
    dir: TempDir,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
}

impl Ended {
    /// The last line of the log, which says why the program gave up.
    ///
    /// # Errors
    /// If the last line is no JSON.
    pub fn last_line(&self) -> Result<Value> {
        let line = self.output.lines().last().context("the program printed nothing")?;
        serde_json::from_str(line).with_context(|| line.to_owned())
    }

    /// Why the program gave up, by its last line.
    ///
    /// # Errors
    /// If that line is another.
    pub fn reason(&self) -> Result<String> {
        let line = self.last_line()?;
        let reason = line["error"].as_str().or(line["reason"].as_str());
        Ok(reason.with_context(|| line.to_string())?.to_owned())
    }
}

impl Ground {
    pub fn new() -> Result<Ground> {
        let dir = tempfile::Builder::new().prefix("quorate-e2e-").tempdir()?;
        Ok(Ground { addresses: address::unused(), starts: AtomicU32::new(0), dir })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the member's data lies unless a flag says otherwise.
    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// Where the member serves clients.
    pub fn address(&self) -> SocketAddr {
        self.addresses.client
    }

    /// Starts the program with `flags` besides those for its directory and addresses. `front` is a program, and its
    /// arguments, that becomes the member in the end: `env`, `prlimit`.
    ///
    /// # Errors
    /// If a program is missing.
    pub fn start(&self, front: &[&str], flags: &[&str]) -> Result<Process> {
        let own = [
            format!("--data-dir={}", self.data_dir().display()),
            format!("--listen-client-urls=http://{}", self.addresses.client),
            format!("--advertise-client-urls=http://{}", self.addresses.client),
            format!("--listen-peer-urls=http://{}", self.addresses.peer),
            "--heartbeat-interval=10".to_owned(),
            "--election-timeout=100".to_owned(),
        ];
        let own = own.iter().map(String::as_str).filter(|own| !flags.iter().any(|flag| name(flag) == name(own)));
        self.start_bare(front, &own.chain(flags.iter().copied()).collect::<Vec<_>>())
    }

    /// Starts the program with `flags` and no others.
    ///
    /// # Errors
    /// If a program is missing.
    pub fn start_bare(&self, front: &[&str], flags: &[&str]) -> Result<Process> {
        let program = Target::Quorate.server_program()?.display().to_string();
        let mut words = front.iter().copied().chain([program.as_str()]).chain(flags.iter().copied());
        let first = words.next().context("there is always the program")?;
        let rest: Vec<String> = words.map(str::to_owned).collect();
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        Process::start("quorate", Path::new(first), &rest, &self.dir().join(format!("output{number}")))
    }

    /// Starts the program as [`Ground::start`] does and waits until it has ended by itself.
    ///
    /// # Errors
    /// If it goes on.
    pub async fn run(&self, front: &[&str], flags: &[&str]) -> Result<Ended> {
        ended(self.start(front, flags)?).await
    }

    /// Starts the program as [`Ground::start`] does and waits until it answers linearizable reads.
    ///
    /// # Errors
    /// If it ends instead.
    pub async fn serve(&self, front: &[&str], flags: &[&str]) -> Result<(Process, Client)> {
        let mut process = self.start(front, flags)?;
        let client = self.ready(&mut process).await?;
        Ok((process, client))
    }

    /// Waits until the member answers linearizable reads.
    ///
    /// # Errors
    /// If it ends instead.
    pub async fn ready(&self, process: &mut Process) -> Result<Client> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            if let Ok(client) = Client::connect(self.address()).await
                && client.range(request::get("ready?")).await.is_ok()
            {
                return Ok(client);
            }
            if let Some(status) = process.exited()? {
                bail!("the server ended with {status} instead of serving:\n{}", process.output());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the server is not ready after {START_LIMIT:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Waits for the end of a process.
///
/// # Errors
/// If it goes on.
pub async fn ended(mut process: Process) -> Result<Ended> {
    let status = process.wait(START_LIMIT).await?;
    Ok(Ended { status, output: process.output() })
}

fn name(flag: &str) -> &str {
    flag.split('=').next().unwrap_or(flag)
}
