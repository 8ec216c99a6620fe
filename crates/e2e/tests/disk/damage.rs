//! Files that changed while the member was stopped: it serves what was acknowledged, or refuses to start, or stops once
//! it meets the damage, and says which file it is in. It never serves anything else, and never panics.
//!
//! `E2E_DAMAGE_ROUNDS` chooses how many places chosen at random each test damages.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{HashKvRequest, LeaseTimeToLiveRequest, MemberListRequest, RangeRequest};
use e2e::request::{compact, delete, everything, lease, op_put, put, txn};
use e2e::{Ground, chosen, revision, run_unlimited};
use rustix::process::Signal;
use testkit::grpc::Client;

use crate::STOP_LIMIT;

/// What every run does.
const ROUNDS: usize = 12;

const PAGE: u64 = 4096;

const LOG: &str = "wal/0000000000000001.wal";
const STATE: &str = "state.redb";

/// All that a client can see.
#[derive(Debug, PartialEq)]
struct Seen {
    now: Vec<api::mvccpb::KeyValue>,
    then: Vec<api::mvccpb::KeyValue>,
    revision: i64,
    hash: (u32, i64),
    lease: (i64, Vec<bytes::Bytes>),
    members: Vec<api::etcdserverpb::Member>,
}

const LEASE: i64 = 77;
/// Neither compacted nor the newest.
const THEN: i64 = 60;

async fn see(client: &Client) -> Result<Seen> {
    let now = client.range(everything()).await?;
    let then = client.range(RangeRequest { revision: THEN, ..everything() }).await?;
    let hash = client.hash_kv(HashKvRequest { revision: 0 }).await?;
    let lease = client.lease_time_to_live(LeaseTimeToLiveRequest { id: LEASE, keys: true }).await?;
    let members = client.member_list(MemberListRequest { linearizable: true }).await?;
    Ok(Seen {
        revision: revision(&now.header),
        now: now.kvs,
        then: then.kvs,
        hash: (hash.hash, hash.compact_revision),
        lease: (lease.granted_ttl, lease.keys),
        members: members.members,
    })
}

/// A stopped member's directory, to be copied and damaged, and what it holds.
struct Specimen {
    ground: Ground,
    original: PathBuf,
    expected: Seen,
}

impl Specimen {
    /// Makes one by every kind of write there is; `end` stops or kills the member.
    async fn make(end: Signal) -> Result<Specimen> {
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &[]).await?;
        client.lease_grant(lease(LEASE, 100_000)).await?;
        let mut random = fastrand::Rng::with_seed(3);
        for number in 0..90 {
            let value = vec![b'a' + number as u8 % 26; random.usize(0..6000)];
            let key = format!("key{}", number % 25);
            let lease = if number % 9 == 0 { LEASE } else { 0 };
            client.put(api::etcdserverpb::PutRequest { lease, ..put(key, value) }).await?;
        }
        client.txn(txn([op_put("x", "1"), op_put("y", "2")])).await?;
        client.delete_range(delete("key3")).await?;
        client.compact(compact(40)).await?;
        let expected = see(&client).await?;
        if end == Signal::KILL {
            // As far as the log goes, what was written last cannot be told from a torn write: only what the state
            // reflects, too, is found missing.
            let state = ground.data_dir().join(STATE);
            let version = || fs::metadata(&state).and_then(|found| found.modified());
            let before = version()?;
            client.put(put("last", "1")).await?;
            e2e::holds_within(STOP_LIMIT, async || Ok(version()? != before)).await?;
            client.delete_range(delete("last")).await?;
        }
        let expected = if end == Signal::KILL { see(&client).await? } else { expected };
        process.signal(end)?;
        process.wait(STOP_LIMIT).await?;
        let original = ground.dir().join("original");
        fs::rename(ground.data_dir(), &original)?;
        for entry in fs::read_dir(original.join("wal"))? {
            let path = entry?.path();
            if path.extension().is_none_or(|kind| kind != "wal") {
                fs::remove_file(path)?;
            }
        }
        Ok(Specimen { ground, original, expected })
    }

    /// Damages `file` of a fresh copy and starts from it. Returns whether the damage was found.
    async fn survives(&self, file: &str, damage: Damage) -> Result<bool> {
        let copy = self.ground.data_dir();
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        // The files are nearly all zeros.
        let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(&self.original).arg(&copy).status()?;
        ensure!(copied.success());
        let path = copy.join(file);
        damage.inflict(&File::options().read(true).write(true).open(&path)?)?;

        let mut process = self.ground.start(&[], &[])?;
        let status = match self.ground.ready(&mut process).await {
            Ok(client) => match see(&client).await {
                Ok(seen) => {
                    ensure!(seen == self.expected, "it serves {seen:?}\ninstead of {:?}", self.expected);
                    return Ok(false);
                }
                // A start reads what a member holds in memory; the rest is met later, by a commit or a reader.
                Err(error) => process.wait(STOP_LIMIT).await.with_context(|| format!("it answers {error}"))?,
            },
            Err(error) => process.exited()?.ok_or(error)?,
        };
        let ended = e2e::Ended { status, output: process.output() };
        ensure!(status.code() == Some(1), "it ended with {status}:\n{}", ended.output);
        ensure!(!ended.output.contains("\"level\":\"panic\""), "it panicked:\n{}", ended.output);
        require_clear(&path, &ended.reason()?)?;
        Ok(true)
    }

    /// Where the last byte is that is not zero.
    fn written(&self, file: &str) -> Result<u64> {
        let bytes = fs::read(self.original.join(file))?;
        let last = bytes.iter().rposition(|&byte| byte != 0).context("the file is empty")?;
        Ok(last as u64 + 1)
    }
}

/// Such a message names the file and says what to do.
pub(crate) fn require_clear(path: &Path, reason: &str) -> Result<()> {
    ensure!(reason.contains(&path.display().to_string()), "which file? {reason}");
    let ways = ["restore", "remove this member", "choose another", "use the newer", "run the version"];
    ensure!(ways.iter().any(|way| reason.contains(way)), "what now? {reason}");
    Ok(())
}

/// Something that happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut { at: u64 },
    Flip { at: u64, bit: u8 },
    Zero { from: u64, to: u64 },
    SwapPages(u64, u64),
}

use Damage::{Cut, Flip, SwapPages, Zero};

impl Damage {
    fn random(written: u64, random: &mut fastrand::Rng) -> Damage {
        let at = random.u64(0..written);
        let rounded = |size: u64| Zero { from: at / size * size, to: at / size * size + size };
        match random.u8(0..6) {
            0..=2 => Flip { at, bit: random.u8(0..8) },
            3 => rounded(PAGE),
            4 => rounded(512),
            _ => SwapPages(at / PAGE, random.u64(0..written.div_ceil(PAGE))),
        }
    }

    fn inflict(self, file: &File) -> Result<()> {
        match self {
            Cut { at } => file.set_len(at)?,
            Flip { at, bit } => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[byte[0] ^ 1 << bit], at)?;
            }
            Zero { from, to } => file.write_all_at(&vec![0; (to - from) as usize], from)?,
            SwapPages(one, other) => {
                let (mut first, mut second) = ([0; PAGE as usize], [0; PAGE as usize]);
                file.read_exact_at(&mut first, one * PAGE)?;
                file.read_exact_at(&mut second, other * PAGE)?;
                file.write_all_at(&second, one * PAGE)?;
                file.write_all_at(&first, other * PAGE)?;
            }
        }
        Ok(())
    }
}

async fn random_damage(specimen: &Specimen, file: &str, seed: u64) -> Result<()> {
    let written = specimen.written(file)?;
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..chosen("E2E_DAMAGE_ROUNDS", ROUNDS)? {
        let damage = Damage::random(written, &mut random);
        specimen.survives(file, damage).await.with_context(|| format!("{damage:?}"))?;
    }
    Ok(())
}

/// Damages `file` in each of these ways; all must be refused.
async fn all_refused(specimen: &Specimen, file: &str, damages: &[Damage]) -> Result<()> {
    for &damage in damages {
        let refused = specimen.survives(file, damage).await.with_context(|| format!("{damage:?}"))?;
        ensure!(refused, "{damage:?} went unseen");
    }
    Ok(())
}

#[test]
fn a_damaged_log_after_an_orderly_stop() {
    run_unlimited(async {
        let specimen = Specimen::make(Signal::TERM).await?;
        let written = specimen.written(LOG)?;
        let middle = written / 2 / PAGE * PAGE;
        let damages = [
            Cut { at: 0 },
            Cut { at: PAGE },
            Cut { at: middle },
            Flip { at: 0, bit: 0 },
            Flip { at: PAGE + 8, bit: 3 },
            Flip { at: middle + 1000, bit: 1 },
            Zero { from: 0, to: PAGE },
            Zero { from: middle, to: middle + PAGE },
            Zero { from: PAGE, to: written },
        ];
        all_refused(&specimen, LOG, &damages).await?;
        random_damage(&specimen, LOG, 1).await
    });
}

#[test]
fn a_damaged_log_after_a_kill() {
    run_unlimited(async {
        let specimen = Specimen::make(Signal::KILL).await?;
        let written = specimen.written(LOG)?;
        let middle = written / 2 / PAGE * PAGE;
        let damages = [Cut { at: middle }, Flip { at: middle + 1000, bit: 1 }, Zero { from: middle, to: written }];
        all_refused(&specimen, LOG, &damages).await
    });
}

#[test]
fn a_damaged_state() {
    run_unlimited(async {
        let specimen = Specimen::make(Signal::TERM).await?;
        let written = specimen.written(STATE)?;
        let damages = [
            Cut { at: 0 },
            Cut { at: written / 2 },
            Flip { at: 0, bit: 0 },
            Zero { from: 0, to: PAGE },
            Zero { from: PAGE, to: written },
        ];
        all_refused(&specimen, STATE, &damages).await?;
        random_damage(&specimen, STATE, 2).await
    });
}

/// An old copy of the log beside a newer state, as from a backup that was not taken at one moment.
#[test]
fn a_log_from_before() {
    run_unlimited(async {
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", "1")).await?;
        process.signal(Signal::TERM)?;
        process.wait(STOP_LIMIT).await?;
        let log = ground.data_dir().join(LOG);
        let old = fs::read(&log)?;
        let (mut process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", "2")).await?;
        process.signal(Signal::TERM)?;
        process.wait(STOP_LIMIT).await?;
        fs::write(&log, old)?;
        let run = ground.run(&[], &[]).await?;
        ensure!(run.status.code() == Some(1), "it ended with {}:\n{}", run.status, run.output);
        let reason = run.reason()?;
        ensure!(reason.contains("the log ends with entry") && reason.contains("had been applied"), "{reason}");
        Ok(())
    });
}
