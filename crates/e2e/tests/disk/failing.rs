//! A disk that fails: the member stops, says which file it was, and has lost nothing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::{get, put};
use e2e::{Ground, Target, run};
use testkit::grpc::Client;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::STOP_LIMIT;

/// A program that runs another whose system calls fail on order.
struct Failing {
    program: PathBuf,
    order: PathBuf,
}

impl Failing {
    fn build(ground: &Ground) -> Result<Failing> {
        let program = ground.dir().join("failing");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/failing.c");
        let built = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status();
        ensure!(built.context("cannot run cc")?.success(), "cc does not build {source}");
        Ok(Failing { program, order: ground.dir().join("order") })
    }

    /// What is to stand in front of the member's program. `refused` is a call that its file system does not know.
    fn front(&self, refused: Option<&str>) -> [String; 3] {
        [self.program.display().to_string(), self.order.display().to_string(), refused.unwrap_or("none").to_owned()]
    }

    /// From now on `call` does not return for files whose path contains `part`, until [`Failing::relent`].
    fn hang(&self, call: &str, part: &str) -> Result<()> {
        self.fail(call, &format!("{part} hang"))
    }

    fn relent(&self) -> Result<()> {
        Ok(fs::remove_file(&self.order)?)
    }

    /// From now on `call` fails for files whose path contains `part`.
    fn fail(&self, call: &str, part: &str) -> Result<()> {
        let unfinished = self.order.with_extension("new");
        fs::write(&unfinished, format!("{call} {part}"))?;
        Ok(fs::rename(unfinished, &self.order)?)
    }
}

/// Writes until the member is gone; returns the last number that was acknowledged.
async fn write_until_gone(client: &Client) -> Result<u64> {
    let mut acknowledged = 0;
    loop {
        let next: u64 = acknowledged + 1;
        match tokio::time::timeout(STOP_LIMIT, client.put(put("a", next.to_string()))).await {
            Ok(Ok(_)) => acknowledged = next,
            Ok(Err(_)) => return Ok(acknowledged),
            Err(_) => anyhow::bail!("a write is neither answered nor refused"),
        }
    }
}

/// `refused` is a call that the file system does not know.
async fn the_member_stops(call: &str, part: &str, refused: Option<&str>, named: &str) -> Result<()> {
    let ground = Ground::new()?;
    let failing = Failing::build(&ground)?;
    let front = failing.front(refused);
    let front: Vec<&str> = front.iter().map(String::as_str).collect();
    let (mut process, client) = ground.serve(&front, &[]).await?;
    client.put(put("before", "1")).await?;
    failing.fail(call, part)?;
    let acknowledged = write_until_gone(&client).await?;
    let status = process.wait(STOP_LIMIT).await?;
    let output = process.output();
    ensure!(status.code() == Some(1), "it ended with {status}:\n{output}");
    let reason = e2e::Ended { status, output }.reason()?;
    let file = ground.data_dir().join(named).display().to_string();
    for expected in [file.as_str(), "Input/output error"] {
        ensure!(reason.contains(expected), "{expected} is not in: {reason}");
    }

    let (_process, client) = ground.serve(&[], &[]).await?;
    assert_eq!(client.range(get("before")).await?.count, 1);
    let found = client.range(get("a")).await?.kvs.pop();
    let found: u64 = found.map_or(Ok(0), |pair| std::str::from_utf8(&pair.value).unwrap_or_default().parse())?;
    ensure!(found == acknowledged || found == acknowledged + 1, "{found} is there, {acknowledged} acknowledged");
    Ok(())
}

macro_rules! the_member_stops {
    ($($name:ident: $call:literal on $part:literal $(without $refused:literal)? names $named:literal;)*) => {
        $(#[test]
        fn $name() {
            run(Target::Quorate, |_| the_member_stops($call, $part, [$($refused)?].first().copied(), $named));
        })*
    };
}

the_member_stops! {
    when_the_log_cannot_be_written: "pwritev2" on ".wal" names "wal/0000000000000001.wal";
    when_the_log_cannot_be_synced: "fdatasync" on ".wal" without "pwritev2" names "wal/0000000000000001.wal";
    when_the_log_cannot_be_written_by_way_of_the_cache: "pwrite64" on ".wal" without "pwritev2" names "wal/0000000000000001.wal";
    when_the_state_cannot_be_synced: "fdatasync" on "state.redb" names "state.redb";
    when_the_state_cannot_be_written: "pwrite64" on "state.redb" names "state.redb";
}

/// A disk that fails at once: the start fails, and the next one works.
#[test]
fn a_start_that_fails_can_be_repeated() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let failing = Failing::build(&ground)?;
        let front = failing.front(None);
        let front: Vec<&str> = front.iter().map(String::as_str).collect();
        let steps = [
            ("pwrite64", ".tmp"),
            ("fdatasync", ".tmp"),
            ("fsync", "/wal"),
            ("pwrite64", ".spare"),
            ("fdatasync", ".spare"),
            ("pwrite64", "state.redb.new"),
            ("ftruncate", "state.redb.new"),
            ("fdatasync", "state.redb.new"),
        ];
        for (call, part) in steps {
            failing.fail(call, part)?;
            let run = ground.run(&front, &[]).await?;
            ensure!(run.status.code() == Some(1), "{call} {part}: it ended with {}\n{}", run.status, run.output);
            let reason = run.reason()?;
            ensure!(reason.contains("Input/output error"), "{call} {part}: {reason}");
            ensure!(reason.contains(&ground.data_dir().display().to_string()), "{call} {part}: {reason}");
        }
        failing.relent()?;
        let (_process, client) = ground.serve(&front, &[]).await?;
        client.put(put("a", "1")).await?;
        Ok(())
    });
}

/// Sectors that cannot be read when the member starts.
#[test]
fn files_that_cannot_be_read_are_named() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let failing = Failing::build(&ground)?;
        let front = failing.front(None);
        let front: Vec<&str> = front.iter().map(String::as_str).collect();
        let (mut process, client) = ground.serve(&front, &[]).await?;
        client.put(put("a", "1")).await?;
        process.kill()?;
        for part in ["0000000000000001.wal", "state.redb"] {
            failing.fail("pread64", part)?;
            let run = ground.run(&front, &[]).await?;
            ensure!(run.status.code() == Some(1), "{part}: it ended with {}\n{}", run.status, run.output);
            let reason = run.reason()?;
            ensure!(reason.contains("Input/output error") && reason.contains(part), "{part}: {reason}");
        }
        failing.relent()?;
        let (_process, client) = ground.serve(&front, &[]).await?;
        assert_eq!(client.range(get("a")).await?.count, 1);
        Ok(())
    });
}

/// Whether systemd's watchdog, which the test stands for, is fed within `limit`.
async fn is_fed(socket: &UnixDatagram, limit: Duration) -> bool {
    let fed = async {
        let mut told = [0; 1024];
        while socket.recv(&mut told).await.is_ok_and(|length| !told[..length].starts_with(b"WATCHDOG=1")) {}
    };
    timeout(limit, fed).await.is_ok()
}

async fn the_watchdog_is_not_fed(call: &str, part: &str, says: &str) -> Result<()> {
    const WATCHDOG: Duration = Duration::from_secs(1);
    let ground = Ground::new()?;
    let failing = Failing::build(&ground)?;
    let path = ground.dir().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    let variables = [format!("NOTIFY_SOCKET={}", path.display()), format!("WATCHDOG_USEC={}", WATCHDOG.as_micros())];
    let front = failing.front(None);
    let front: Vec<&str> = front.iter().map(String::as_str).chain(["env", &variables[0], &variables[1]]).collect();
    let (mut process, client) = ground.serve(&front, &[]).await?;
    ensure!(is_fed(&socket, STOP_LIMIT).await, "it is not fed though all is well");

    failing.hang(call, part)?;
    let mut writing = tokio::spawn(async move { client.put(put("a", "1")).await });
    // It is until the disk has hung for the watchdog's patience.
    let hung = async { while is_fed(&socket, 2 * WATCHDOG).await {} };
    ensure!(timeout(STOP_LIMIT, hung).await.is_ok(), "it is fed though the disk hangs");
    ensure!(process.output().matches(says).count() == 1, "{says} is not told once:\n{}", process.output());

    failing.relent()?;
    ensure!(is_fed(&socket, STOP_LIMIT).await, "it is not fed though the disk goes on");
    timeout(STOP_LIMIT, &mut writing).await???;
    process.signal(rustix::process::Signal::TERM)?;
    process.wait(STOP_LIMIT).await?;
    Ok(())
}

#[test]
fn a_log_that_the_disk_keeps_waiting_shows_the_watchdog() {
    run(Target::Quorate, |_| the_watchdog_is_not_fed("pwritev2", ".wal", "the disk has not answered the log"));
}

#[test]
fn a_backend_that_the_disk_keeps_waiting_shows_the_watchdog() {
    run(Target::Quorate, |_| {
        the_watchdog_is_not_fed("fdatasync", "state.redb", "the disk has not answered the backend")
    });
}
