//! Stopping by signal, and the log a run leaves.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::{put, watch, watch_range};
use e2e::{Ground, Target, Watch, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What a stop may take, in a debug build on a busy machine.
const STOP_LIMIT: Duration = Duration::from_secs(5);

async fn stops_by(signal: Signal) -> Result<()> {
    let ground = Ground::new()?;
    let (mut process, client) = ground.serve(&[], &[]).await?;
    client.put(put("a", "1")).await?;
    let mut one = Watch::start(&client, watch("a")).await?;
    let mut all = Watch::start(&client, watch_range("\0", "\0")).await?;
    let _idle = client.clone();
    let _silent = TcpStream::connect(ground.address()).await?;
    let began = Instant::now();
    process.signal(signal)?;
    // etcd ends its watches with UNAVAILABLE or by closing the connection; either way they end.
    ensure!(one.end().await?.is_err(), "a watch was told that all is well");
    ensure!(all.end().await?.is_err(), "a watch was told that all is well");
    let status = process.wait(STOP_LIMIT).await?;
    ensure!(status.signal() == Some(signal.as_raw()), "it ended with {status}");
    ensure!(began.elapsed() < STOP_LIMIT, "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn sigterm_ends_it_though_clients_hold_on() {
    run(Target::Quorate, |_| stops_by(Signal::TERM));
}

#[test]
fn sigint_ends_it_though_clients_hold_on() {
    run(Target::Quorate, |_| stops_by(Signal::INT));
}

/// A signal that the first process of a container sends to itself does not end it.
#[test]
fn the_first_process_of_a_container_ends_well() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (mut process, _client) = ground.serve(&["unshare", "--pid", "--fork", "--kill-child"], &[]).await?;
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.id()))?;
        let first = Pid::from_raw(children.trim().parse()?).context("a process id is positive")?;
        kill_process(first, Signal::TERM)?;
        let status = process.wait(STOP_LIMIT).await?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    });
}

#[test]
fn a_socket_file_goes_with_the_process() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let socket = ground.dir().join("socket");
        let listen = format!("--listen-client-urls=http://{},unix://{}", ground.address(), socket.display());
        let (mut process, _client) = ground.serve(&[], &[&listen]).await?;
        assert!(socket.exists());
        process.signal(Signal::TERM)?;
        process.wait(STOP_LIMIT).await?;
        assert!(!socket.exists());
        Ok(())
    });
}

/// A client that writes without end cannot put off the stop, and what it was told is there afterwards.
#[test]
fn sigterm_under_load_loses_nothing() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &[]).await?;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let counted = acknowledged.clone();
        let writer = tokio::spawn(async move {
            for number in 1.. {
                if client.put(put("a", u64::to_string(&number))).await.is_err() {
                    return;
                }
                counted.store(number, Ordering::Relaxed);
            }
        });
        e2e::holds_within(STOP_LIMIT, async || Ok(acknowledged.load(Ordering::Relaxed) > 50)).await?;
        process.signal(Signal::TERM)?;
        let status = process.wait(STOP_LIMIT).await?;
        ensure!(status.signal() == Some(Signal::TERM.as_raw()), "it ended with {status}");
        writer.await?;
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        let (_process, client) = ground.serve(&[], &[]).await?;
        let pair = client.range(e2e::request::get("a")).await?.kvs.pop().context("the key is gone")?;
        let value: u64 = std::str::from_utf8(&pair.value)?.parse()?;
        ensure!(value == acknowledged || value == acknowledged + 1, "{value} after {acknowledged}");
        Ok(())
    });
}

#[test]
fn log_lines_are_json_as_etcd_has_them() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (mut process, _client) = ground.serve(&[], &[]).await?;
        process.signal(Signal::TERM)?;
        process.wait(STOP_LIMIT).await?;
        let output = process.output();
        let lines: Vec<Value> = output
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect::<Result<_>>()?;
        for line in &lines {
            for field in ["level", "ts", "caller", "msg"] {
                ensure!(line[field].is_string(), "{field} in {line}");
            }
            let time = line["ts"].as_str().unwrap_or_default();
            ensure!(time.len() == "2026-01-02T03:04:05.678901Z".len() && time.ends_with('Z'), "{time}");
            let caller = line["caller"].as_str().unwrap_or_default();
            ensure!(caller.split_once(':').is_some_and(|(_, number)| number.parse::<u32>().is_ok()), "{caller}");
        }
        let banner = &lines[0];
        ensure!(banner["data-dir"] == ground.data_dir().display().to_string(), "{banner}");
        ensure!(banner["listen-client-urls"] == format!("http://{}", ground.address()), "{banner}");
        ensure!(banner["version"].is_string() && banner["etcd-version"].is_string(), "{banner}");
        Ok(())
    });
}
