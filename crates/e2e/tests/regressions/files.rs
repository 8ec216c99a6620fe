//! Files of a member that do not fit together, or end in the middle of a write.
//!
//! `E2E_TORN_STRIDE` chooses at every how many bytes the last write is torn; a release wants 1.
#![allow(clippy::disallowed_methods, reason = "it damages real files")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::MemberListRequest;
use e2e::request::{get, put, range};
use e2e::{
    CALL_LIMIT, Cluster, Member, SETTLE_LIMIT, Target, Wiring, chosen, early_snapshots, holds_within, missed_bytes,
    within,
};

/// What every run does.
const TORN_STRIDE: usize = 37;

const SECTOR: usize = 512;

/// The files of a data directory that hold the log, and those that hold the state.
struct Parts {
    log: &'static str,
    state: &'static str,
}

fn parts(target: Target) -> Parts {
    match target {
        Target::Etcd => Parts { log: "member/wal", state: "member/snap/db" },
        Target::Quorate => Parts { log: "wal", state: "state.redb" },
    }
}

/// Makes `to` a copy of `from`, whatever was there. The files are nearly all zeros.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.is_dir() {
        fs::remove_dir_all(to)?;
    }
    let copied = Command::new("cp").args(["-aT", "--sparse=always"]).arg(from).arg(to).status()?;
    ensure!(copied.success(), "cannot copy {}", from.display());
    Ok(())
}

/// The newest file of the log in a data directory.
fn newest(target: Target, data_dir: &Path) -> Result<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(data_dir.join(parts(target).log))? {
        let path = entry?.path();
        files.extend(path.extension().is_some_and(|kind| kind == "wal").then_some(path));
    }
    files.into_iter().max().context("there is no log")
}

/// Where the last write begins and ends, of which `mark` is a part.
fn last_write(target: Target, log: &[u8], mark: &[u8]) -> Result<(usize, usize)> {
    let at = log.windows(mark.len()).rposition(|window| window == mark).context("it was not written")?;
    let end = log.iter().rposition(|byte| *byte != 0).context("the log is empty")? + 1;
    match target {
        Target::Etcd => {
            // Records follow each other, each behind its length, with padding as the uppermost byte says.
            let mut start = 0;
            loop {
                let head = log[start..].first_chunk().context("the last record ends within the file")?;
                let head = i64::from_le_bytes(*head);
                let padding = if head < 0 { (head.cast_unsigned() >> 56 & 7) as usize } else { 0 };
                let next = start + 8 + (head & ((1 << 56) - 1)) as usize + padding;
                if next > at {
                    return Ok((start, end.max(next)));
                }
                start = next;
            }
        }
        Target::Quorate => {
            let start = (0..=at).step_by(SECTOR).filter(|&start| log[start..].starts_with(b"QWFR"));
            Ok((start.last().context("no frame begins before it")?, end))
        }
    }
}

/// Whether something was written after what begins at `start` that says that it was durable.
fn is_vouched_for(target: Target, log: &[u8], start: usize) -> bool {
    let sequence = &log[start + 8..start + 16];
    let later = (start + SECTOR..log.len().saturating_sub(16)).step_by(SECTOR);
    target == Target::Quorate
        && later.into_iter().any(|at| log[at..].starts_with(b"QWFR") && log[at + 8..at + 16] == *sequence)
}

/// What a crash may leave of a write that begins at `start`. Every file of Quorate's log has its whole size before it is
/// written to; etcd's may end anywhere.
fn torn(target: Target, log: &[u8], cut: usize) -> Vec<u8> {
    let mut torn = log.to_vec();
    match target {
        Target::Etcd if !cut.is_multiple_of(SECTOR) => torn.truncate(cut),
        _ => torn[cut..].fill(0),
    }
    torn
}

/// Each place at which a write from `start` to `end` is to be torn: at sectors' ends, which are filled with zeros from there
/// on, and in between.
fn cuts(start: usize, end: usize) -> Result<Vec<usize>> {
    let stride = chosen("E2E_TORN_STRIDE", TORN_STRIDE)?;
    let mut cuts: Vec<usize> = (start + 1..end).step_by(stride).chain([end - 1]).collect();
    cuts.extend((start.next_multiple_of(SECTOR)..end).step_by(SECTOR));
    cuts.sort_unstable();
    cuts.dedup();
    Ok(cuts)
}

/// Of several sectors, and nowhere zero.
const LAST: &str = "the last value";

fn last_value() -> String {
    LAST.repeat(1500 / LAST.len())
}

/// A17 (#5230, #6515, #14098, PR 15069): the last write of a log, torn anywhere.
async fn a_last_write_torn_anywhere_costs_nothing_that_was_acknowledged(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    for number in 0..10 {
        member.put(put(format!("key{number}"), number.to_string())).await?;
    }
    let (data, before) = (member.data_dir(), member.data_dir().with_extension("before"));
    let (file, log, start, end) = loop {
        member.kill()?;
        copy(&data, &before)?;
        member.restart().await?;
        member.put(put("last", last_value())).await?;
        member.kill()?;
        let file = newest(target, &data)?;
        let log = fs::read(&file)?;
        let (start, end) = last_write(target, &log, LAST.as_bytes())?;
        // It took so long until it was killed that the write is known to have been durable.
        if !is_vouched_for(target, &log, start) {
            break (file, log, start, end);
        }
        member.restart().await?;
    };
    // The log as of now, beside the state as of before: that is what a crash leaves.
    for cut in cuts(start, end)? {
        member.kill()?;
        copy(&before, &data)?;
        fs::write(&file, torn(target, &log, cut))?;
        member.restart().await.with_context(|| format!("torn at {cut} of {start}..{end}"))?;
        let read = member.range(range("key", "kez")).await?;
        assert_eq!(read.count, 10, "torn at {cut} of {start}..{end}");
        for (number, pair) in read.kvs.iter().enumerate() {
            assert_eq!(pair.value, number.to_string(), "torn at {cut} of {start}..{end}");
        }
        let last = member.range(get("last")).await?.kvs.pop();
        ensure!(last.is_none_or(|last| last.value == last_value()), "torn at {cut} of {start}..{end}: half a value");
        member.put(put("after", "1")).await?;
    }
    Ok(())
}

/// The same to one of three, who gets from the others what it lost.
async fn a_member_whose_last_write_is_torn_gets_it_again(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    cluster.client(0).await?.put(put("key", "1")).await?;
    let (data, before) = (cluster.seats()[0].data_dir(), cluster.seats()[0].dir().join("before"));
    for round in 0..4 {
        for seat in 0..3 {
            cluster.seat(seat).kill()?;
        }
        copy(&data, &before)?;
        cluster.spawn_all()?;
        cluster.settled().await?;
        cluster.client(1).await?.put(put("last", format!("{round}{}", last_value()))).await?;
        // All of them: who had an answer from this member may count on it.
        cluster.seat(0).ready().await?;
        for seat in 0..3 {
            cluster.seat(seat).kill()?;
        }
        let file = newest(target, &data)?;
        let log = fs::read(&file)?;
        let (start, end) = last_write(target, &log, LAST.as_bytes())?;
        if is_vouched_for(target, &log, start) {
            cluster.spawn_all()?;
            cluster.settled().await?;
            continue;
        }
        copy(&before, &data)?;
        let cut = if round == 0 { start.next_multiple_of(SECTOR) } else { start + (end - start) * round / 4 };
        fs::write(&file, torn(target, &log, cut))?;
        cluster.spawn_all()?;
        cluster.settled().await.with_context(|| format!("torn at {cut} of {start}..{end}"))?;
        let read = cluster.client(0).await?.range(get("last")).await?;
        assert_eq!(read.kvs[0].value, format!("{round}{}", last_value()));
        cluster.equal().await?;
    }
    Ok(())
}

/// A15 (#22686): of three members one is left, and of its log only what it was a while ago. etcd panics, or serves what its
/// state has and loses every write until the log has caught up.
async fn a_member_whose_log_is_behind_its_state_can_go_on_alone(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    client.put(put("key", "1")).await?;
    let survivor = cluster.follower().await?;
    let (data, log) = (cluster.seats()[survivor].data_dir(), parts(target).log);
    let old_log = cluster.seats()[survivor].dir().join("old log");
    cluster.seat(survivor).stop().await?;
    copy(&data.join(log), &old_log)?;
    cluster.restart(survivor).await?;
    let other = (survivor + 1) % 3;
    for number in 0..20 {
        cluster.client(other).await?.put(put("key", number.to_string())).await?;
    }
    cluster.equal().await?;
    // An orderly stop: the state has everything.
    cluster.seat(survivor).stop().await?;
    for seat in [other, (survivor + 2) % 3] {
        cluster.seat(seat).kill()?;
    }
    copy(&old_log, &data.join(log))?;
    cluster.seat(survivor).set_flags(&[("force-new-cluster", "true")]);
    if target == Target::Etcd {
        let is_stuck = match cluster.restart(survivor).await {
            Ok(alone) => within(SETTLE_LIMIT, alone.put(put("key", "after"))).await?.is_err(),
            Err(_) => cluster.seats()[survivor].output().contains("is out of range"),
        };
        ensure!(is_stuck, "this etcd does not have the bug");
        return Ok(());
    }
    let alone = cluster.restart(survivor).await?;
    assert_eq!(alone.range(get("key")).await?.kvs[0].value, "19");
    let list = alone.member_list(MemberListRequest { linearizable: true }).await?;
    assert_eq!(list.members.len(), 1);
    alone.put(put("key", "after")).await?;
    cluster.seat(survivor).kill()?;
    cluster.seat(survivor).set_flags(&[("force-new-cluster", "false")]);
    cluster.restart(survivor).await?;
    let added = cluster.add(survivor, false).await?;
    let new = cluster.restart(added).await?;
    assert_eq!(new.range(get("key")).await?.kvs[0].value, "after");
    cluster.equal().await?;
    Ok(())
}

/// Starts a member on files that do not fit together. It either serves, and holds what the others hold, or ends and says
/// why, without a panic, and is replaced. Returns whether it served.
async fn recovers_or_refuses(cluster: &mut Cluster, seat: usize, id: u64) -> Result<bool> {
    let printed = cluster.seats()[seat].output().len();
    cluster.spawn(seat)?;
    if cluster.seat(seat).ready().await.is_ok() {
        cluster.settled().await?;
        cluster.equal().await?;
        return Ok(true);
    }
    let (status, output) = cluster.seat(seat).ended(SETTLE_LIMIT).await?;
    let output = &output[printed..];
    ensure!(status.code() == Some(1), "it ended with {status}:\n{output}");
    ensure!(!output.contains("\"level\":\"panic\""), "it panicked:\n{output}");
    let dir = cluster.seats()[seat].data_dir().display().to_string();
    ensure!(output.lines().last().is_some_and(|line| line.contains(&dir)), "it does not say in which file:\n{output}");
    let via = cluster.running()[0];
    cluster.remove(via, id).await?;
    let added = cluster.add(via, false).await?;
    cluster.restart(added).await?;
    cluster.settled().await?;
    cluster.equal().await?;
    Ok(false)
}

/// A16 (PR 17151): a member whose state is newer than its log. etcd starts, and panics when the leader tells it of what it
/// had, or applies nothing of what comes until its log has caught up.
async fn a_state_that_is_newer_than_the_log_is_refused(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let behind = cluster.follower().await?;
    let id = cluster.id(behind).await?;
    let (data, log) = (cluster.seats()[behind].data_dir(), parts(target).log);
    let old_log = cluster.seats()[behind].dir().join("old log");
    cluster.seat(behind).stop().await?;
    copy(&data.join(log), &old_log)?;
    cluster.restart(behind).await?;
    let other = (behind + 1) % 3;
    let client = cluster.client(other).await?;
    for number in 0..20 {
        client.put(put("key", number.to_string())).await?;
    }
    cluster.equal().await?;
    let term = cluster.status(other).await?.raft_term;
    cluster.seat(behind).stop().await?;
    copy(&old_log, &data.join(log))?;
    if target == Target::Etcd {
        cluster.spawn(behind)?;
        match cluster.seat(behind).ended(SETTLE_LIMIT).await {
            Ok((_, output)) => ensure!(output.contains("panic: tocommit"), "this etcd does not have the bug"),
            // A leader that came meanwhile does not know what it had.
            Err(running) => ensure!(cluster.status(other).await?.raft_term > term, "{running}: it lacks the bug"),
        }
        return Ok(());
    }
    ensure!(!recovers_or_refuses(&mut cluster, behind, id).await?, "nothing can be known of what the log had");
    Ok(())
}

/// A16: a state that is older than the log is brought up to date from the log, as after any crash.
async fn a_state_that_is_older_than_the_log_catches_up(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let client = cluster.client(0).await?;
    client.put(put("key", "1")).await?;
    let behind = cluster.follower().await?;
    let id = cluster.id(behind).await?;
    let state = cluster.seats()[behind].data_dir().join(parts(target).state);
    let old_state = cluster.seats()[behind].dir().join("old state");
    cluster.seat(behind).stop().await?;
    copy(&state, &old_state)?;
    cluster.restart(behind).await?;
    let client = cluster.client((behind + 1) % 3).await?;
    for number in 0..20 {
        client.put(put("key", number.to_string())).await?;
    }
    cluster.equal().await?;
    cluster.seat(behind).stop().await?;
    copy(&old_state, &state)?;
    ensure!(recovers_or_refuses(&mut cluster, behind, id).await?, "the log has all that the state lacks");
    Ok(())
}

/// A16: the log begins after what the state has. etcd panics.
async fn a_state_that_is_older_than_the_beginning_of_the_log_is_refused(target: Target) -> Result<()> {
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &early_snapshots(target)).await?;
    let client = cluster.client(0).await?;
    client.put(put("key", "1")).await?;
    let behind = cluster.follower().await?;
    let id = cluster.id(behind).await?;
    let state = cluster.seats()[behind].data_dir().join(parts(target).state);
    let old_state = cluster.seats()[behind].dir().join("old state");
    cluster.seat(behind).stop().await?;
    copy(&state, &old_state)?;
    cluster.restart(behind).await?;
    let client = cluster.client((behind + 1) % 3).await?;
    let value = vec![b'v'; missed_bytes(target) / 350];
    for number in 0..400 {
        client.put(put(format!("key{}", number % 50), &value)).await?;
    }
    cluster.equal().await?;
    cluster.seat(behind).stop().await?;
    copy(&old_state, &state)?;
    if target == Target::Etcd {
        cluster.spawn(behind)?;
        let (status, output) = cluster.seat(behind).ended(SETTLE_LIMIT).await?;
        let panicked = output.contains("failed to recover v3 backend from snapshot");
        ensure!(!status.success() && panicked, "this etcd does not have the bug");
        return Ok(());
    }
    ensure!(!recovers_or_refuses(&mut cluster, behind, id).await?, "the log lacks what came after the state");
    let client = cluster.client(cluster.running()[0]).await?;
    holds_within(CALL_LIMIT, async || Ok(client.put(put("key", "2")).await.is_ok())).await
}

e2e::on_both_targets!(unlimited: a_last_write_torn_anywhere_costs_nothing_that_was_acknowledged,);

mod clusters {
    use super::*;
    e2e::on_both_targets!(clusters:
        a_member_whose_last_write_is_torn_gets_it_again,
        a_member_whose_log_is_behind_its_state_can_go_on_alone,
        a_state_that_is_newer_than_the_log_is_refused,
        a_state_that_is_older_than_the_log_catches_up,
        a_state_that_is_older_than_the_beginning_of_the_log_is_refused,
    );
}
