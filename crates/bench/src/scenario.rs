//! The comparison's rows: what is done to a server, and which numbers it gives.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use crate::fill::fill;
use crate::gateway::round_trips;
use crate::load::{Load, Pace};
use crate::measure::{Usage, peak_rss_mb, rss_mb};
use crate::server::Server;
use crate::watchers::{Streamed, fan_out, keep_alive};
use crate::workload::Workload;

/// One number of one row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) row: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
}

/// How long and how large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) seconds: f64,
    /// Keys of the large stores.
    pub(crate) keys: u64,
    /// How often a leader goes.
    pub(crate) failovers: usize,
}

pub(crate) const MANY: (usize, usize) = (100, 10);
pub(crate) const ONE: (usize, usize) = (1, 1);
pub(crate) const WATCHERS: usize = 1000;
/// Puts a second in the open loop: what either server does without falling behind.
const OPEN_RATE: f64 = 5000.0;

/// So many puts of 8 B/256 B fill a 64 MiB log file, of either server, more than twice.
const WARM_PUTS: u64 = 400_000;

/// Collects the figures of one server's turn.
pub(crate) struct Turn<'a> {
    pub(crate) program: &'a Path,
    pub(crate) root: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) size: Size,
    pub(crate) figures: Vec<Figure>,
}

impl Turn<'_> {
    pub(crate) fn note(&mut self, row: &'static str, metric: &'static str, value: f64) {
        self.figures.push(Figure { row, metric, value });
    }

    async fn server(&self) -> anyhow::Result<Server> {
        Server::start(self.program, self.root, self.name).await
    }

    /// Small requests against a small store, and memory when idle.
    pub(crate) async fn small(&mut self) -> anyhow::Result<()> {
        let server = self.server().await?;
        sleep(Duration::from_secs(2)).await;
        self.note("idle", "RSS MB", rss_mb(server.pid())?);
        self.warm(&server).await?;
        self.loaded("put 8 B/256 B, 100x10", &server, Workload::Put, MANY).await?;
        let open = Load { pace: Pace::Open(OPEN_RATE), ..self.load(&server, Workload::Put, MANY) };
        self.measured("put, 5,000/s whatever the answers take, 100x10", &server, open).await?;
        self.loaded("put, one client", &server, Workload::Put, ONE).await?;
        self.loaded("get linearizable, 100x10", &server, Workload::Get, MANY).await?;
        self.loaded("get serializable, 100x10", &server, Workload::GetSerializable, MANY).await?;
        self.loaded("get linearizable, one client", &server, Workload::Get, ONE).await?;
        self.loaded("txn create-or-get, 100x10", &server, Workload::Txn, MANY).await?;
        self.loaded("Kubernetes-like mix, 100x10", &server, Workload::Kubernetes, MANY).await?;
        self.loaded("lease grant, 100x10", &server, Workload::LeaseGrant, MANY).await?;
        for (row, connections) in
            [("JSON gateway, put and get, 64 connections", 64), ("JSON gateway, put and get, one client", 1)]
        {
            let duration = Duration::from_secs_f64(self.size.seconds);
            let (seen, used) = round_trips(server.address(), server.pid(), connections, duration).await?;
            self.streamed(row, "us CPU/op", &seen, used);
        }
        self.note("all of the above", "peak RSS MB", peak_rss_mb(server.pid())?);
        Ok(())
    }

    /// Watch fan-out and keepalives.
    pub(crate) async fn streams(&mut self) -> anyhow::Result<()> {
        let server = self.server().await?;
        let (pid, address) = (server.pid(), server.address());
        let duration = Duration::from_secs_f64(self.size.seconds);
        let (seen, used) = fan_out(address, pid, WATCHERS, duration).await?;
        self.streamed("watch fan-out, 1,000 watchers", "us CPU/event", &seen, used);
        let (renewed, used) = keep_alive(address, &[pid], WATCHERS, duration).await?;
        self.streamed("lease keepalive, 1,000 streams", "us CPU/op", &renewed, used);
        self.note("watch fan-out and keepalive", "peak RSS MB", peak_rss_mb(pid)?);
        Ok(())
    }

    /// Ranges: a thousand keys of 1 KiB, then questions about a large store, and its memory.
    pub(crate) async fn ranges(&mut self) -> anyhow::Result<()> {
        let server = self.server().await?;
        put_range(&server).await?;
        self.loaded("range 1,000 x 1 KiB, one client", &server, Workload::Range, ONE).await?;
        self.note("range 1,000 x 1 KiB, one client", "peak RSS MB", peak_rss_mb(server.pid())?);
        drop(server);
        let server = self.server().await?;
        fill(server.address(), self.size.keys, 64).await?;
        // Let background commits and the allocator come to rest.
        sleep(Duration::from_secs(3)).await;
        self.note("1 M keys x 64 B", "RSS MB", rss_mb(server.pid())?);
        self.loaded("limit=1 over 1 M keys, one client", &server, Workload::LimitOne, ONE).await?;
        self.loaded("count_only over 1 M keys, one client", &server, Workload::CountOnly, ONE).await
    }

    /// From SIGKILL to the first linearizable read.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        let mut server = self.server().await?;
        fill(server.address(), self.size.keys, 256).await?;
        server.kill()?;
        let took = server.restart().await?;
        self.note("SIGKILL to first read, 1 M keys x 256 B", "s", took.as_secs_f64());
        Ok(())
    }

    /// Puts until every key exists and the log files that a server makes once, and fills again and again from then on,
    /// are there. What making them costs is no part of any row.
    async fn warm(&self, server: &Server) -> anyhow::Result<()> {
        let load = self.load(server, Workload::Put, MANY);
        let mut puts = 0;
        while puts < WARM_PUTS {
            puts += load.run().await?.operations;
        }
        Ok(())
    }

    fn load(&self, server: &Server, workload: Workload, shape: (usize, usize)) -> Load {
        self.load_of(vec![server.address()], workload, shape)
    }

    pub(crate) fn load_of(
        &self,
        endpoints: Vec<SocketAddr>,
        workload: Workload,
        (connections, streams): (usize, usize),
    ) -> Load {
        Load {
            endpoints,
            workload,
            connections,
            streams,
            pace: Pace::Closed,
            duration: Duration::from_secs_f64(self.size.seconds),
            key_size: 8,
            value_size: 256,
            keys: 10_000,
            seed: 1,
        }
    }

    async fn loaded(
        &mut self,
        row: &'static str,
        server: &Server,
        workload: Workload,
        shape: (usize, usize),
    ) -> anyhow::Result<()> {
        self.measured(row, server, self.load(server, workload, shape)).await
    }

    async fn measured(&mut self, row: &'static str, server: &Server, load: Load) -> anyhow::Result<()> {
        self.measured_of(row, &[server.pid()], load).await
    }

    /// Runs a load and notes what `processes` used together.
    pub(crate) async fn measured_of(&mut self, row: &'static str, processes: &[u32], load: Load) -> anyhow::Result<()> {
        let writes = load.workload.writes();
        let before = Usage::of_all(processes)?;
        let outcome = load.run().await?;
        let used = Usage::of_all(processes)?.since(&before);
        ensure!(outcome.errors == 0, "{row} on {}: {outcome}", self.name);
        eprintln!("{}: {row}: {outcome}", self.name);
        let operations = outcome.operations as f64;
        self.note(row, "us CPU/op", used.cpu.as_secs_f64() * 1e6 / operations);
        self.note(row, "op/s", outcome.per_second());
        self.note(row, "p50 us", outcome.latency_us(0.5));
        self.note(row, "p99 us", outcome.latency_us(0.99));
        if writes {
            self.note(row, "bytes written/op", used.written_bytes as f64 / operations);
        }
        Ok(())
    }

    pub(crate) fn streamed(&mut self, row: &'static str, metric: &'static str, seen: &Streamed, used: Usage) {
        eprintln!("{}: {row}: {:.0}/s", self.name, seen.count as f64 / seen.elapsed.as_secs_f64());
        self.note(row, metric, used.cpu.as_secs_f64() * 1e6 / seen.count as f64);
        self.note(row, "/s", seen.count as f64 / seen.elapsed.as_secs_f64());
        self.note(row, "p99 us", seen.latencies.value_at_quantile(0.99) as f64 / 1e3);
    }
}

async fn put_range(server: &Server) -> anyhow::Result<()> {
    let client = testkit::grpc::Client::connect(server.address()).await?;
    for number in 0..1000 {
        let key = format!("range/{number:04}").into_bytes().into();
        let put = api::etcdserverpb::PutRequest { key, value: vec![b'v'; 1024].into(), ..Default::default() };
        client.put(put).await?;
    }
    Ok(())
}
