//! The place of one member: its name, addresses, flags and data, whether or not a process runs there.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use testkit::grpc::Client;

use super::wiring::Place;
use super::{SETTLE_LIMIT, alter, answers, gone};
use crate::{Process, Target};

/// One member of a cluster.
#[derive(Debug)]
pub struct Seat {
    target: Target,
    name: String,
    place: Place,
    flags: Vec<(String, String)>,
    dir: PathBuf,
    process: Option<Process>,
}

impl Seat {
    pub(super) fn new(target: Target, number: usize, place: Place, dir: PathBuf) -> Seat {
        let name = format!("m{number}");
        let client = format!("http://{}", place.client);
        let mut seat = Seat { target, name: name.clone(), place, flags: Vec::new(), dir, process: None };
        seat.set_flags(&[
            ("name", &name),
            ("data-dir", &seat.data_dir().display().to_string()),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &format!("http://{}", place.peer)),
            ("initial-advertise-peer-urls", &seat.peer_url()),
            ("initial-cluster-token", "tested"),
            // Short, so that elections do not take the tests' time, but not so short that a busy machine causes them.
            ("heartbeat-interval", "50"),
            ("election-timeout", "500"),
        ]);
        seat
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.place.client
    }

    /// Where it listens for members, past any proxy.
    pub fn peer_address(&self) -> SocketAddr {
        self.place.peer
    }

    /// What it tells the others to call.
    pub fn peer_url(&self) -> String {
        format!("http://{}", self.place.advertised)
    }

    /// A directory of its own, which holds its data and output.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Whether there is a process that has not ended.
    pub fn running(&self) -> bool {
        self.process.is_some()
    }

    /// Sets flags for the next start; they win over those before.
    pub fn set_flags(&mut self, given: &[(&str, &str)]) {
        for &(name, value) in given {
            self.flags.retain(|(held, _)| held != name);
            self.flags.push((name.to_owned(), value.to_owned()));
        }
    }

    pub(super) fn spawn(&mut self, front: Vec<String>) -> Result<()> {
        let program = self.target.server_program()?;
        let flags = self.flags.iter().map(|(name, value)| format!("--{name}={value}"));
        let own = program.display().to_string();
        let mut words: Vec<String> = front.into_iter().chain([own]).chain(flags).collect();
        let first = words.remove(0);
        let shown = format!("{} {}", self.target, self.name);
        self.process = Some(Process::start(&shown, Path::new(&first), &words, &self.dir.join("output"))?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("it does not run")?;
        process.signal(Signal::TERM)?;
        process.wait(SETTLE_LIMIT).await
    }

    /// SIGSTOP: it holds its sockets and says nothing.
    pub fn freeze(&mut self) -> Result<()> {
        self.process.as_ref().context("it does not run")?.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<()> {
        self.process.as_ref().context("it does not run")?.signal(Signal::CONT)
    }

    /// Waits for an end that comes without a signal; returns the status and all it ever printed.
    pub async fn ended(&mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let mut process = self.process.take().context("it does not run")?;
        let status = process.wait(limit).await?;
        Ok((status, process.output()))
    }

    /// All that was printed here, by every process there was.
    pub fn output(&self) -> String {
        fs::read(self.dir.join("output"))
            .map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into())
    }

    /// How often it took over another member's state, by what it printed: so that a test of that knows that it is one.
    pub fn snapshots_installed(&self) -> usize {
        let text = match self.target {
            Target::Etcd => "applied snapshot",
            Target::Quorate => "installed ",
        };
        self.output().lines().filter(|line| line.contains(text) && line.contains("snapshot")).count()
    }

    /// Takes the data away. The process must not run.
    pub fn wipe(&mut self) -> Result<()> {
        fs::remove_dir_all(self.data_dir()).context("wipe the data")
    }

    /// Makes the stored value `from` another one of the same length, in a way that the member does not notice by itself.
    /// It must have been stopped, not killed, so that the value has reached its state.
    pub fn alter_value(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        ensure!(!self.running(), "it still runs");
        match self.target {
            Target::Etcd => alter::etcd(&self.data_dir(), from, to),
            Target::Quorate => alter::quorate(&self.data_dir(), from, to),
        }
    }

    /// Waits until it answers a linearizable read; returns the connection it answered on.
    ///
    /// # Errors
    /// If the process ends, or it takes too long.
    pub async fn ready(&mut self) -> Result<Client> {
        self.ready_within(SETTLE_LIMIT).await
    }

    /// As [`Seat::ready`], with another limit.
    pub async fn ready_within(&mut self, limit: Duration) -> Result<Client> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let last = match answers(self.place.client).await {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let process = self.process.as_mut().context("it does not run")?;
            if let Some(status) = process.exited()? {
                gone(&self.name, status, &process.output())?;
            }
            if tokio::time::Instant::now() > deadline {
                return Err(last).with_context(|| format!("{} does not serve after {limit:?}", self.name));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
