//! One running member and its data directory.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;
use testkit::grpc::{Client, Status};

use crate::address::{self, Addresses};
use crate::{Process, Target, request};

/// How long a server may take from start to its first linearizable read.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A one-member cluster with a client connection to it, which is what it dereferences to: `member.put(..)` is a call.
#[derive(Debug)]
pub struct Member {
    target: Target,
    flags: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    addresses: Addresses,
    client: Client,
    process: Process,
    /// Last, so that it outlives the process, which reads its output from it when dropped.
    dir: TempDir,
}

impl Member {
    /// Starts a fresh member with short election timeouts, so that it is ready at once.
    pub async fn start(target: Target) -> Result<Member> {
        Member::start_with(target, &[]).await
    }

    /// As [`Member::start`], with further flags, which win over the harness' own.
    pub async fn start_with(target: Target, flags: &[(&str, &str)]) -> Result<Member> {
        Member::start_in(target, &[], flags).await
    }

    /// As [`Member::start_with`], with these variables in its environment.
    pub async fn start_in(target: Target, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Member> {
        let addresses = address::unused();
        let dir = tempfile::Builder::new().prefix("quorate-e2e-").tempdir()?;
        let flags = own_flags(addresses, dir.path(), flags);
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut process = spawn(target, &flags, &variables, dir.path())?;
        let client = ready(&mut process, addresses.client).await?;
        Ok(Member { target, flags, variables, addresses, client, process, dir })
    }

    pub fn target(&self) -> Target {
        self.target
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.addresses.client
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A further connection.
    pub async fn connect(&self) -> Result<Client, Status> {
        Client::connect(self.addresses.client).await
    }

    /// SIGKILL. Until [`Member::restart`] every call fails.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(START_LIMIT).await
    }

    /// Starts the program again on the same data and connects anew; kills what still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(self.target, &self.flags, &self.variables, self.dir.path())?;
        self.client = ready(&mut self.process, self.addresses.client).await?;
        Ok(())
    }

    /// As [`Member::restart`], with `flags` added to those before.
    pub async fn restart_with(&mut self, flags: &[(&str, &str)]) -> Result<()> {
        set_flags(&mut self.flags, flags);
        self.restart().await
    }
}

impl Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

fn own_flags(addresses: Addresses, dir: &Path, given: &[(&str, &str)]) -> Vec<(String, String)> {
    let client_url = format!("http://{}", addresses.client);
    let peer_url = format!("http://{}", addresses.peer);
    let mut flags = Vec::new();
    set_flags(
        &mut flags,
        &[
            ("name", "m1"),
            ("data-dir", &dir.join("data").display().to_string()),
            ("listen-client-urls", &client_url),
            ("advertise-client-urls", &client_url),
            ("listen-peer-urls", &peer_url),
            ("initial-advertise-peer-urls", &peer_url),
            ("initial-cluster", &format!("m1={peer_url}")),
            ("heartbeat-interval", "10"),
            ("election-timeout", "100"),
        ],
    );
    set_flags(&mut flags, given);
    flags
}

fn set_flags(flags: &mut Vec<(String, String)>, given: &[(&str, &str)]) {
    for &(name, value) in given {
        flags.retain(|(held, _)| held != name);
        flags.push((name.to_owned(), value.to_owned()));
    }
}

fn spawn(target: Target, flags: &[(String, String)], variables: &[(String, String)], dir: &Path) -> Result<Process> {
    let program = target.server_program()?;
    let arguments: Vec<String> = flags.iter().map(|(name, value)| format!("--{name}={value}")).collect();
    Process::start_in(&target.to_string(), &program, &arguments, variables, &dir.join("output"))
}

/// Waits until the member answers a linearizable read; returns the connection it answered on.
async fn ready(process: &mut Process, address: SocketAddr) -> Result<Client> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        let last = match answers(address).await {
            Ok(client) => return Ok(client),
            Err(status) => status,
        };
        if let Some(status) = process.exited()? {
            bail!("the server ended with {status} instead of serving:\n{}", process.output());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(last).with_context(|| format!("the server is not ready after {START_LIMIT:?}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn answers(address: SocketAddr) -> Result<Client, Status> {
    let client = Client::connect(address).await?;
    client.range(request::get("ready?")).await?;
    Ok(client)
}
