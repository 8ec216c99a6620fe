//! A server under test, as a process of its own.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "starts processes in directories of its own")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use api::etcdserverpb::RangeRequest;
use rustix::process::{Pid, Signal, kill_process};
use testkit::grpc::Client;
use tokio::time::{Instant, sleep};

use crate::workload::{RANGE, encode};

pub(crate) struct Server {
    program: PathBuf,
    dir: PathBuf,
    data: PathBuf,
    name: String,
    address: SocketAddr,
    peer_port: u16,
    /// `name=url` of every founder.
    founders: String,
    flags: Vec<String>,
    child: Option<Child>,
}

const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Then it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

impl Server {
    /// Starts `program` on free ports with an empty directory below `root`.
    pub(crate) async fn start(program: &Path, root: &Path, name: &str) -> anyhow::Result<Server> {
        let mut server = Server::prepare(program, root, name, &[])?;
        server.founders = server.founder();
        server.restart().await?;
        Ok(server)
    }

    /// A place for a process, whose founders are not known yet.
    pub(crate) fn prepare(program: &Path, root: &Path, name: &str, flags: &[&str]) -> anyhow::Result<Server> {
        let dir = root.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(Server {
            program: program.to_owned(),
            data: dir.join("data"),
            dir,
            name: name.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], free_port()?)),
            peer_port: free_port()?,
            founders: String::new(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            child: None,
        })
    }

    /// `name=url`, as founders are told of one another.
    pub(crate) fn founder(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    pub(crate) fn set_founders(&mut self, founders: &str) {
        founders.clone_into(&mut self.founders);
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Starts the process (again) and returns how long it took until a linearizable read was answered.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.spawn()?;
        self.ready().await?;
        Ok(start.elapsed())
    }

    /// Starts the process without waiting for it.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<()> {
        let (client, peer) = (format!("http://{}", self.address), self.peer_url());
        let log = fs::File::create(self.dir.join("log"))?;
        let child = Command::new(&self.program)
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.founders])
            .args(["--quota-backend-bytes", "8589934592"])
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| self.program.display().to_string())?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers a linearizable read.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if self.reads().await {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().transpose()) {
                bail!("{} ended: {}\n{}", self.program.display(), status?, self.log());
            }
            sleep(Duration::from_millis(2)).await;
        }
        bail!("{} does not answer\n{}", self.program.display(), self.log())
    }

    async fn reads(&self) -> bool {
        let Ok(client) = Client::connect(self.address).await else { return false };
        let read = RangeRequest { key: "ready".into(), ..Default::default() };
        client.call(RANGE, &[], encode(&read)).await.is_ok()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Freezes the process (`STOP`), or lets it go on (`CONT`).
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Moves the data of a process that does not run to `to`, which may be on another disk.
    pub(crate) fn move_data(&mut self, to: PathBuf) -> anyhow::Result<()> {
        if to.exists() {
            fs::remove_dir_all(&to)?;
        }
        let copied = Command::new("cp").arg("-a").args([&self.data, &to]).status()?;
        ensure!(copied.success(), "{} cannot be copied to {}", self.data.display(), to.display());
        fs::remove_dir_all(&self.data)?;
        self.data = to;
        Ok(())
    }

    /// SIGTERM, without waiting for the end.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).context("a process id is positive")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("it runs")?;
        while child.try_wait()?.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// SIGTERM, and a while for what is to be done then. A process that stands still goes on first.
    fn end(&mut self) -> anyhow::Result<()> {
        if self.child.is_none() {
            return Ok(());
        }
        self.signal(Signal::CONT)?;
        self.terminate()?;
        let start = Instant::now();
        while start.elapsed() < END_TIMEOUT {
            if self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to report to; a process that is gone already is as good. One that keeps account of what it executes
        // writes that down at its own end.
        let _ = self.end();
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.data);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
