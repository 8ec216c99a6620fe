//! A disk that fails: the member stops, says which file it was, and has lost nothing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::request::{get, put};
use e2e::{Ground, Target, run};
use testkit::grpc::Client;

use crate::STOP_LIMIT;

/// A library that makes system calls fail on order.
struct Shim {
    library: PathBuf,
    order: PathBuf,
}

impl Shim {
    fn build(ground: &Ground) -> Result<Shim> {
        let library = ground.dir().join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/shim.c");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        ensure!(built.context("cannot run cc")?.success(), "cc does not build {source}");
        Ok(Shim { library, order: ground.dir().join("order") })
    }

    /// What is to stand in front of the member's program.
    fn front(&self) -> [String; 3] {
        let preload = format!("LD_PRELOAD={}", self.library.display());
        ["env".to_owned(), preload, format!("FAULT_ORDER={}", self.order.display())]
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

/// `refused` is a call that the file system does not know, or nothing.
async fn the_member_stops(call: &str, part: &str, refused: &str, named: &str) -> Result<()> {
    let ground = Ground::new()?;
    let shim = Shim::build(&ground)?;
    let refused = format!("FAULT_REFUSED={refused}");
    let front = shim.front();
    let front: Vec<&str> = front.iter().chain([&refused]).map(String::as_str).collect();
    let (mut process, client) = ground.serve(&front, &[]).await?;
    client.put(put("before", "1")).await?;
    shim.fail(call, part)?;
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
            run(Target::Quorate, |_| the_member_stops($call, $part, concat!($($refused)?), $named));
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
        let shim = Shim::build(&ground)?;
        let front = shim.front();
        let front: Vec<&str> = front.iter().map(String::as_str).collect();
        let steps = [
            ("pwrite64", ".tmp"),
            ("fdatasync", ".tmp"),
            ("fsync", "/wal"),
            ("pwrite64", ".spare"),
            ("fdatasync", ".spare"),
            ("pwrite64", "state.redb.new"),
            ("ftruncate64", "state.redb.new"),
            ("fdatasync", "state.redb.new"),
        ];
        for (call, part) in steps {
            shim.fail(call, part)?;
            let run = ground.run(&front, &[]).await?;
            ensure!(run.status.code() == Some(1), "{call} {part}: it ended with {}\n{}", run.status, run.output);
            let reason = run.reason()?;
            ensure!(reason.contains("Input/output error"), "{call} {part}: {reason}");
            ensure!(reason.contains(&ground.data_dir().display().to_string()), "{call} {part}: {reason}");
        }
        fs::remove_file(&shim.order)?;
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
        let shim = Shim::build(&ground)?;
        let front = shim.front();
        let front: Vec<&str> = front.iter().map(String::as_str).collect();
        let (mut process, client) = ground.serve(&front, &[]).await?;
        client.put(put("a", "1")).await?;
        process.kill()?;
        for part in ["0000000000000001.wal", "state.redb"] {
            shim.fail("pread64", part)?;
            let run = ground.run(&front, &[]).await?;
            ensure!(run.status.code() == Some(1), "{part}: it ended with {}\n{}", run.status, run.output);
            let reason = run.reason()?;
            ensure!(reason.contains("Input/output error") && reason.contains(part), "{part}: {reason}");
        }
        fs::remove_file(&shim.order)?;
        let (_process, client) = ground.serve(&front, &[]).await?;
        assert_eq!(client.range(get("a")).await?.count, 1);
        Ok(())
    });
}
