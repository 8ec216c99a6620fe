//! A full disk: writes that add are refused, all else goes on, and once there is room again so do they.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{RangeRequest, StatusRequest, TxnRequest};
use e2e::refusal::NO_SPACE;
use e2e::request::{delete, everything, get, lease, op_delete, op_put, put, txn, value_is, watch_range};
use e2e::{Ground, Process, SmallDisk, Target, Watch, fails, holds_within, revision, run, shown};
use rustix::process::Signal;
use testkit::grpc::{Client, Status};

/// Room for three segments of the log and about 30 MiB more.
const DISK_MEGABYTES: u32 = 224;

/// Leaves room for one segment.
const ALL_BUT_ONE_SEGMENT: usize = 124;

/// What writing again may take once there is room: both threads that write try anew every second at least.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);

fn data_dir(path: &Path) -> String {
    format!("--data-dir={}", path.display())
}

/// A member on a small disk of its own.
struct OnSmallDisk {
    flag: String,
    client: Client,
    process: Process,
    disk: SmallDisk,
    ground: Ground,
}

impl OnSmallDisk {
    async fn start(prepare: impl FnOnce(&SmallDisk) -> Result<()>) -> Result<OnSmallDisk> {
        let ground = Ground::new()?;
        let disk = SmallDisk::mount(ground.dir(), DISK_MEGABYTES)?;
        prepare(&disk)?;
        let flag = data_dir(&disk.path("data"));
        let (process, client) = ground.serve(&[], &[&flag]).await?;
        Ok(OnSmallDisk { flag, client, process, disk, ground })
    }

    async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        (self.process, self.client) = self.ground.serve(&[], &[&self.flag]).await?;
        Ok(())
    }

    async fn writes_again(&self) -> Result<()> {
        holds_within(RECOVERY_LIMIT, async || match self.client.put(put("again", "1")).await {
            Ok(_) => Ok(true),
            Err(status) if (status.code, status.message.as_str()) == NO_SPACE => Ok(false),
            Err(status) => Err(status.into()),
        })
        .await
        .context("writes are still refused")
    }
}

/// Writes until it is refused for lack of space; returns the keys acknowledged, all with the value `value`.
async fn write_until_full(client: &Client, value: &[u8]) -> Result<Vec<String>> {
    let mut acknowledged = Vec::new();
    for number in 0..100_000 {
        let key = format!("key{number}");
        match client.put(put(&key, value)).await {
            Ok(_) => acknowledged.push(key),
            Err(status) => {
                fails::<()>(Err(status), NO_SPACE);
                return Ok(acknowledged);
            }
        }
    }
    anyhow::bail!("the disk does not fill up")
}

async fn holds(client: &Client, keys: &[String], value: &[u8]) -> Result<()> {
    for key in keys {
        let pair = client.range(get(key)).await?.kvs.pop();
        ensure!(pair.is_some_and(|pair| pair.value == value), "{key} was acknowledged and is gone");
    }
    Ok(())
}

#[test]
fn a_full_disk_refuses_writes_and_serves_all_else() {
    run(Target::Quorate, |_| async {
        let mut member = OnSmallDisk::start(|_| Ok(())).await?;
        let value = vec![b'v'; 50_000];
        let first = revision(&member.client.put(put("old", "1")).await?.header);
        member.client.put(put("old", "2")).await?;
        let mut watch = Watch::start(&member.client, watch_range("old", "old\0")).await?;
        member.disk.take_all()?;
        let acknowledged = write_until_full(&member.client, &value).await?;

        let client = &member.client;
        fails(client.txn(txn([op_put("a", "1")])).await, NO_SPACE);
        fails(client.lease_grant(lease(7, 60)).await, NO_SPACE);
        holds(client, &acknowledged, &value).await?;
        let then = RangeRequest { revision: first, ..get("old") };
        assert_eq!(client.range(then).await?.kvs[0].value, "1");
        assert_eq!(client.delete_range(delete("old")).await?.deleted, 1);
        let deleted = shown(&watch.events(1).await?[0]);
        ensure!(deleted.starts_with("DELETE old@"), "{deleted}");
        client.status(StatusRequest {}).await?;

        // A member that finds the disk full when it starts serves reads too.
        member.restart().await?;
        holds(&member.client, &acknowledged, &value).await?;
        assert_eq!(member.client.range(get("old")).await?.count, 0);

        member.disk.give_back()?;
        member.writes_again().await?;
        ensure!(member.process.exited()?.is_none());
        holds(&member.client, &acknowledged, &value).await?;
        member.restart().await?;
        holds(&member.client, &acknowledged, &value).await?;
        assert_eq!(member.client.range(get("again")).await?.count, 1);
        Ok(())
    });
}

/// The last megabytes: room runs out in the middle of commits, again and again.
#[test]
fn room_that_comes_and_goes_loses_nothing() {
    run(Target::Quorate, |_| async {
        let mut member = OnSmallDisk::start(|_| Ok(())).await?;
        let mut written = 0_usize;
        for round in 0..4 {
            member.disk.take_all()?;
            let value = vec![b'0' + round; 9_000];
            for key in write_until_full(&member.client, &value).await? {
                let moved = member.client.range(get(&key)).await?.kvs;
                ensure!(moved[0].value == value, "{key} reads another value");
                written += 1;
            }
            let before = member.client.range(everything()).await?;
            if round == 2 {
                member.restart().await?;
            }
            member.disk.give_back()?;
            member.writes_again().await?;
            let after = member.client.range(everything()).await?;
            ensure!(after.count >= before.count, "{} keys of {} are left", after.count, before.count);
        }
        ensure!(written > 0, "nothing was ever written");
        Ok(())
    });
}

/// There is room for the state, but not for another segment of the log: better to refuse writes now than to stop in
/// the middle of one.
#[test]
fn no_room_for_the_next_segment_of_the_log() {
    run(Target::Quorate, |_| async {
        let member = OnSmallDisk::start(|disk| disk.take(ALL_BUT_ONE_SEGMENT)).await?;
        // The next segment is made when half of this one is used.
        for _ in 0..HALF_A_SEGMENT {
            member.client.txn(large_and_idle()).await?;
        }
        let refused = async || Ok(member.client.put(put("a", "1")).await.is_err());
        holds_within(RECOVERY_LIMIT, refused).await?;
        fails(member.client.put(put("a", "2")).await, NO_SPACE);
        member.client.range(everything()).await?;
        member.client.delete_range(delete("a")).await?;
        member.disk.give_back()?;
        member.writes_again().await
    });
}

/// The log keeps entries for members that fall behind, far more than the disk holds; they go when it is full.
#[test]
fn what_the_log_keeps_for_others_does_not_fill_the_disk() {
    run(Target::Quorate, |_| async {
        let mut member = OnSmallDisk::start(|_| Ok(())).await?;
        let segments_written = 2 * DISK_MEGABYTES / 64;
        for _ in 0..2 * segments_written {
            for _ in 0..HALF_A_SEGMENT {
                member.client.txn(large_and_idle()).await?;
            }
            member.writes_again().await?;
        }
        member.restart().await?;
        assert_eq!(member.client.range(get("again")).await?.count, 1);
        member.writes_again().await
    });
}

/// Deletions go on while the disk is full, until the log is full too. Then they wait, reads do not, and a stop is a
/// stop.
#[test]
fn a_log_that_is_full_makes_writes_wait() {
    run(Target::Quorate, |_| async {
        let mut member = OnSmallDisk::start(|disk| disk.take(ALL_BUT_ONE_SEGMENT)).await?;
        let waits = fill_log(&member.client).await?;
        member.client.range(everything()).await?;
        member.client.status(StatusRequest {}).await?;
        ensure!(!waits.is_finished());
        member.disk.give_back()?;
        waits.await??;
        member.writes_again().await?;
        ensure!(member.process.exited()?.is_none());

        member.restart().await?;
        let index = member.client.status(StatusRequest {}).await?.raft_index;
        ensure!(index > 44, "only {index} entries are left");
        Ok(())
    });
}

#[test]
fn a_stop_does_not_wait_for_room_in_the_log() {
    run(Target::Quorate, |_| async {
        let mut member = OnSmallDisk::start(|disk| disk.take(ALL_BUT_ONE_SEGMENT)).await?;
        let waits = fill_log(&member.client).await?;
        member.process.signal(Signal::TERM)?;
        let status = member.process.wait(Duration::from_secs(5)).await?;
        ensure!(status.signal() == Some(Signal::TERM.as_raw()), "it ended with {status}");
        ensure!(waits.await?.is_err(), "what is not in the log was acknowledged");
        member.disk.give_back()?;
        member.restart().await?;
        member.writes_again().await
    });
}

/// So many of these take more than half a segment of the log.
const HALF_A_SEGMENT: usize = 26;

/// A transaction that takes much of the log and nothing of the state: it compares much and deletes nothing.
fn large_and_idle() -> TxnRequest {
    let mut request = txn([op_delete("nothing")]);
    request.compare.push(value_is("nothing", vec![b'x'; 1_450_000]));
    request.failure.push(op_delete("nothing"));
    request
}

/// Fills the 64 MiB of the log's only segment. Returns the write that waits for room.
async fn fill_log(client: &Client) -> Result<tokio::task::JoinHandle<Result<(), Status>>> {
    let request = large_and_idle();
    for _ in 0..60 {
        let (client, request) = (client.clone(), request.clone());
        let mut call = tokio::spawn(async move { client.txn(request).await.map(drop) });
        match tokio::time::timeout(Duration::from_secs(1), &mut call).await {
            Ok(done) => done??,
            Err(_) => return Ok(call),
        }
    }
    anyhow::bail!("the log does not fill up")
}
