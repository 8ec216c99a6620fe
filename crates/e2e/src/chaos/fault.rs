//! What is done to a cluster under load. Each fault is healed before it ends; that the cluster recovers is judged later.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::MoveLeaderRequest;
use fastrand::Rng;
use tokio::time::sleep;

use super::Run;
use crate::{CALL_LIMIT, Cluster, SETTLE_LIMIT, SmallDisk, Target, Wiring, early_snapshots, missed_bytes, within};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    KillLeader,
    KillFollower,
    KillTwo,
    KillAll,
    /// One after the other, at random, with hardly any time in between.
    KillInTurns,
    /// SIGSTOP, longer than an election takes, and SIGCONT.
    FreezeLeader,
    FreezeFollower,
    FreezeAll,
    /// No packets between the leader and the others.
    CutOffLeader,
    CutOffFollower,
    /// Nobody hears anybody.
    CutAll,
    /// The leader is heard by one and hears none, or the other way round.
    CutOneWay,
    /// As the cuts, by packet filters in network namespaces.
    FilterLeader,
    /// A part of all packets is lost.
    LosePackets,
    /// Messages take up to as long as an election timeout.
    SlowWires,
    FillDisk,
    /// A follower is away for so long that it gets a snapshot, and is killed again while that comes in.
    FallBehind,
    RestartInTurns,
    MoveLeader,
    ReplaceMember,
    /// One after the other, until none is left of those that began.
    ReplaceAll,
    /// From one member to three, to five, and back to three, without those that began.
    GrowAndShrink,
}

/// How often a fault that comes in blows is dealt.
const BLOWS: usize = 3;

/// Room for three segments of Quorate's log and about 30 MiB more.
const DISK_MEGABYTES: u32 = 224;

impl Fault {
    /// A fresh cluster to which this can be done.
    pub(super) async fn cluster(self, target: Target) -> Result<Cluster> {
        let flags = early_snapshots(target);
        let members = if self == Fault::GrowAndShrink { 1 } else { 3 };
        Cluster::start_with(target, members, self.wiring(), &flags).await
    }

    fn wiring(self) -> Wiring {
        match self {
            Fault::CutOffLeader | Fault::CutOffFollower | Fault::CutAll | Fault::CutOneWay | Fault::SlowWires => {
                Wiring::Proxied
            }
            Fault::FilterLeader | Fault::LosePackets => Wiring::Namespaces,
            _ => Wiring::Direct,
        }
    }

    /// Does it, and heals it.
    pub(super) async fn inflict(self, cluster: &mut Cluster, run: &Run, random: &mut Rng) -> Result<()> {
        match self {
            Fault::KillLeader => {
                for _ in 0..BLOWS {
                    let leader = cluster.leader().await?;
                    kill(cluster, &[leader], random).await?;
                }
            }
            Fault::KillFollower => {
                for _ in 0..BLOWS {
                    let follower = cluster.follower().await?;
                    kill(cluster, &[follower], random).await?;
                }
            }
            Fault::KillTwo => {
                for _ in 0..BLOWS {
                    let spared = random.usize(..3);
                    kill(cluster, &[(spared + 1) % 3, (spared + 2) % 3], random).await?;
                    cluster.settled().await?;
                }
            }
            Fault::KillAll => {
                for _ in 0..BLOWS {
                    kill(cluster, &[0, 1, 2], random).await?;
                    cluster.settled().await?;
                }
            }
            Fault::KillInTurns => {
                for _ in 0..BLOWS * 3 {
                    let seat = random.usize(..3);
                    cluster.seat(seat).kill()?;
                    sleep(Duration::from_millis(random.u64(0..300))).await;
                    cluster.spawn(seat)?;
                    sleep(Duration::from_millis(random.u64(0..700))).await;
                }
            }
            Fault::FreezeLeader => freeze(cluster, &[cluster.leader().await?], random).await?,
            Fault::FreezeFollower => freeze(cluster, &[cluster.follower().await?], random).await?,
            Fault::FreezeAll => freeze(cluster, &[0, 1, 2], random).await?,
            Fault::CutOffLeader | Fault::FilterLeader => {
                for _ in 0..2 {
                    cluster.isolate(cluster.leader().await?)?;
                    heal_after(cluster, random.u64(1500..3500)).await?;
                }
            }
            Fault::CutOffFollower => {
                cluster.isolate(cluster.follower().await?)?;
                heal_after(cluster, random.u64(2000..4000)).await?;
            }
            Fault::CutAll => {
                for seat in 0..3 {
                    cluster.isolate(seat)?;
                }
                heal_after(cluster, random.u64(1500..3000)).await?;
            }
            Fault::CutOneWay => {
                for _ in 0..2 {
                    let leader = cluster.leader().await?;
                    let others = [(leader + 1) % 3, (leader + 2) % 3];
                    match random.bool() {
                        true => others.iter().try_for_each(|&other| cluster.cut(other, leader))?,
                        false => cluster.cut(leader, others[random.usize(..2)])?,
                    }
                    heal_after(cluster, random.u64(1500..3000)).await?;
                }
            }
            Fault::LosePackets => {
                cluster.lose(0.05 + random.f64() * 0.25)?;
                heal_after(cluster, 4000).await?;
            }
            Fault::SlowWires => {
                cluster.delay(Duration::ZERO, Duration::from_millis(random.u64(100..600)))?;
                heal_after(cluster, 4000).await?;
            }
            Fault::FillDisk => fill_disk(cluster, run, random).await?,
            Fault::FallBehind => fall_behind(cluster, run, random).await?,
            Fault::RestartInTurns => {
                for seat in 0..3 {
                    cluster.seat(seat).stop().await?;
                    cluster.restart(seat).await?;
                }
            }
            Fault::MoveLeader => {
                for _ in 0..20 {
                    let leader = cluster.leader().await?;
                    let target_id = cluster.id((leader + 1 + random.usize(..2)) % 3).await?;
                    let client = cluster.client(leader).await?;
                    // Refused if the leader is another by now, or slow to come: the load goes on all the same.
                    within(CALL_LIMIT, client.move_leader(MoveLeaderRequest { target_id })).await?.ok();
                    sleep(Duration::from_millis(50)).await;
                }
            }
            Fault::ReplaceMember => replace(cluster, run, random.usize(..3)).await?,
            Fault::ReplaceAll => {
                for leaves in 0..3 {
                    replace(cluster, run, leaves).await?;
                    cluster.settled().await?;
                }
            }
            Fault::GrowAndShrink => {
                for _ in 1..5 {
                    grow(cluster, run).await?;
                }
                for leaves in [0, random.usize(1..5)] {
                    shrink(cluster, run, leaves).await?;
                }
            }
        }
        Ok(())
    }
}

async fn heal_after(cluster: &mut Cluster, millis: u64) -> Result<()> {
    sleep(Duration::from_millis(millis)).await;
    cluster.heal()?;
    cluster.leader().await?;
    Ok(())
}

/// SIGKILL to all of `seats` at once; they come back after a moment.
async fn kill(cluster: &mut Cluster, seats: &[usize], random: &mut Rng) -> Result<()> {
    for &seat in seats {
        cluster.seat(seat).kill()?;
    }
    sleep(Duration::from_millis(random.u64(100..1500))).await;
    for &seat in seats {
        cluster.spawn(seat)?;
    }
    sleep(Duration::from_millis(random.u64(0..1000))).await;
    Ok(())
}

async fn freeze(cluster: &mut Cluster, seats: &[usize], random: &mut Rng) -> Result<()> {
    for &seat in seats {
        cluster.seat(seat).freeze()?;
    }
    sleep(Duration::from_millis(random.u64(1500..4000))).await;
    for &seat in seats {
        cluster.seat(seat).thaw()?;
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// One member moves to a small disk, which fills up and is emptied again.
async fn fill_disk(cluster: &mut Cluster, run: &Run, random: &mut Rng) -> Result<()> {
    let seat = random.usize(..3);
    cluster.seat(seat).stop().await?;
    let disk = SmallDisk::mount(cluster.seats()[seat].dir(), DISK_MEGABYTES)?;
    let small = disk.path("data");
    let moved =
        std::process::Command::new("cp").arg("-a").arg(cluster.seats()[seat].data_dir()).arg(&small).status()?;
    ensure!(moved.success(), "the data could not be copied");
    cluster.seat(seat).set_flags(&[("data-dir", &small.display().to_string())]);
    cluster.restart(seat).await?;
    disk.take_all()?;
    let before = run.count();
    // The others go on, whatever this one does.
    let go_on = async {
        while run.count() < before + 800 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    within(SETTLE_LIMIT, go_on).await.context("one full disk stops all")?;
    disk.give_back()?;
    // etcd gives up when it cannot write; Quorate waits for room.
    let ended = cluster.seat(seat).process().context("it was started")?.exited()?.is_some();
    if ended {
        cluster.restart(seat).await?;
    }
    cluster.settled().await?;
    // Back, since the disk goes when this ends.
    cluster.seat(seat).stop().await?;
    cluster.seat(seat).wipe()?;
    let back = std::process::Command::new("cp").arg("-a").arg(&small).arg(cluster.seats()[seat].data_dir()).status()?;
    ensure!(back.success(), "the data could not be copied back");
    let home = cluster.seats()[seat].data_dir().display().to_string();
    cluster.seat(seat).set_flags(&[("data-dir", &home)]);
    cluster.restart(seat).await?;
    Ok(())
}

async fn fall_behind(cluster: &mut Cluster, run: &Run, random: &mut Rng) -> Result<()> {
    let away = cluster.follower().await?;
    cluster.seat(away).kill()?;
    run.fill(cluster.seats()[cluster.running()[0]].address(), missed_bytes(cluster.target())).await?;
    cluster.spawn(away)?;
    sleep(Duration::from_millis(random.u64(0..600))).await;
    cluster.seat(away).kill()?;
    cluster.restart(away).await?;
    cluster.settled().await?;
    ensure!(cluster.seats()[away].snapshots_installed() > 0, "no snapshot was sent");
    Ok(())
}

/// A member is removed, another takes its place.
async fn replace(cluster: &mut Cluster, run: &Run, leaves: usize) -> Result<()> {
    shrink(cluster, run, leaves).await?;
    grow(cluster, run).await
}

async fn shrink(cluster: &mut Cluster, run: &Run, leaves: usize) -> Result<()> {
    let id = cluster.id(leaves).await?;
    let stays = cluster.running().into_iter().find(|&seat| seat != leaves).context("somebody stays")?;
    cluster.remove(stays, id).await?;
    cluster.seat(leaves).ended(SETTLE_LIMIT).await?;
    run.members_changed(cluster);
    Ok(())
}

async fn grow(cluster: &mut Cluster, run: &Run) -> Result<()> {
    let asked = cluster.leader().await?;
    let seat = cluster.add(asked, false).await?;
    cluster.restart(seat).await?;
    cluster.settled().await?;
    run.members_changed(cluster);
    Ok(())
}
