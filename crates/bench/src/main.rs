//! Load for any etcd endpoint, and a side-by-side comparison of two servers.
//!
//! `bench run` drives one endpoint with one workload and prints what it saw. `bench compare` starts a real etcd and
//! Quorate in turns on this machine, drives both with the same workloads, reads the servers' own CPU time, memory and
//! bytes written from the kernel, and writes a table of ratios. `bench train` puts the same load on a program that keeps
//! account of what it executes.
//!
//! One thread makes the load. Latency is measured from the moment a request was due (open loop) or sent (closed loop)
//! to its answer.

#![allow(clippy::print_stdout, reason = "a program whose output is its purpose")]

mod cluster;
mod compare;
mod failover;
mod fill;
mod gateway;
mod load;
mod measure;
mod report;
mod scenario;
mod server;
mod train;
mod watchers;
mod workload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::load::{Load, Pace};
use crate::workload::Workload;

#[derive(Parser)]
#[command(about = "Load for any etcd endpoint")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drive one endpoint.
    Run(Run),
    /// Put many keys quickly, in transactions.
    Fill {
        #[arg(long, default_value = "127.0.0.1:2379")]
        endpoint: SocketAddr,
        #[arg(long, default_value_t = 1_000_000)]
        keys: u64,
        #[arg(long, default_value_t = 64)]
        value_size: usize,
    },
    /// Keep leases alive, each on a stream of its own.
    KeepAlive {
        #[arg(long, default_value = "127.0.0.1:2379")]
        endpoint: SocketAddr,
        #[arg(long, default_value_t = 1000)]
        leases: usize,
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        /// Processes whose CPU time is to be reported, if they run on this machine.
        #[arg(long, value_delimiter = ',')]
        pid: Vec<u32>,
    },
    /// Compare etcd and Quorate on this machine.
    Compare(compare::Options),
    /// Put the comparison's load on one program, so that it can be built by the profile that it writes.
    Train(train::Options),
}

#[derive(clap::Args)]
struct Run {
    /// Addresses of the server, or of the cluster's members.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoint: Vec<SocketAddr>,
    #[arg(long, value_enum)]
    workload: Workload,
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 10)]
    streams: usize,
    /// Requests per second in all, due at even distances; without it every stream sends as soon as it was answered.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 8)]
    key_size: usize,
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Different keys.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Process whose CPU time and bytes written are to be reported, if it runs on this machine.
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match Arguments::parse().command {
            Command::Run(run) => drive(run).await,
            Command::Fill { endpoint, keys, value_size } => fill::fill(endpoint, keys, value_size).await,
            Command::KeepAlive { endpoint, leases, seconds, pid } => renew(endpoint, leases, seconds, &pid).await,
            Command::Compare(options) => compare::compare(options).await,
            Command::Train(options) => train::train(options).await,
        }
    })
}

async fn drive(run: Run) -> anyhow::Result<()> {
    let load = Load {
        endpoints: run.endpoint,
        workload: run.workload,
        connections: run.connections,
        streams: run.streams,
        pace: run.rate.map_or(Pace::Closed, Pace::Open),
        duration: Duration::from_secs_f64(run.seconds),
        key_size: run.key_size,
        value_size: run.value_size,
        keys: run.keys,
        seed: run.seed,
    };
    let before = run.pid.map(measure::Usage::of).transpose()?;
    let outcome = load.run().await?;
    println!("{outcome}");
    if let (Some(pid), Some(before)) = (run.pid, before) {
        let used = measure::Usage::of(pid)?.since(&before);
        let operations = outcome.operations.max(1) as f64;
        println!(
            "server: {:.1} us CPU, {:.0} bytes written per operation; peak RSS {:.1} MB",
            used.cpu.as_secs_f64() * 1e6 / operations,
            used.written_bytes as f64 / operations,
            measure::peak_rss_mb(pid)?
        );
    }
    Ok(())
}

async fn renew(endpoint: SocketAddr, leases: usize, seconds: f64, processes: &[u32]) -> anyhow::Result<()> {
    let duration = Duration::from_secs_f64(seconds);
    let (renewed, used) = watchers::keep_alive(endpoint, processes, leases, duration).await?;
    let [half, most] = [0.5, 0.99].map(|part| renewed.latencies.value_at_quantile(part) as f64 / 1e3);
    let per_second = renewed.count as f64 / renewed.elapsed.as_secs_f64();
    println!("{per_second:.0} renewals/s; p50 {half:.0} us, p99 {most:.0} us");
    if !processes.is_empty() {
        println!("servers: {:.1} us CPU per renewal", used.cpu.as_secs_f64() * 1e6 / renewed.count.max(1) as f64);
    }
    Ok(())
}

/// Where results are written.
fn default_report() -> PathBuf {
    PathBuf::from("bench/RESULTS.md")
}
