//! Clusters under load and faults: whatever happens, what clients saw has one order.
//!
//! Every test collects histories of at least 2,000 operations with one kind of fault in them, from fresh clusters, and
//! has them judged. `E2E_CHAOS_ROUNDS` chooses how many (on Quorate; etcd, which shows that the tests are fair, gets
//! one), `E2E_CHAOS_SEED` the first seed, `E2E_LEDGER` a file to which a line for each is added.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use e2e::chaos::{Fault, Run, history};
use e2e::{Cluster, Target, Wiring, chosen};

/// What every run does: with all kinds of faults some 40 histories.
const ROUNDS: u64 = 2;

async fn histories(target: Target, fault: Fault) -> Result<()> {
    let rounds = if target == Target::Etcd { 1 } else { chosen("E2E_CHAOS_ROUNDS", ROUNDS)? };
    let first = chosen("E2E_CHAOS_SEED", 1)?;
    for seed in first..first + rounds {
        let judged = history(target, fault, seed).await?;
        eprintln!("{target}, {fault:?}, seed {seed}: {judged}");
    }
    Ok(())
}

/// That judgement sees: with clients that are shown what one member has, a member that was cut off is found out.
async fn stale_reads_are_found(target: Target) -> Result<()> {
    let mut cluster = Cluster::start_with(target, 3, Wiring::Proxied, &[]).await?;
    let run = Run::start_deceived(&cluster, 1);
    for _ in 0..3 {
        cluster.isolate(cluster.follower().await?)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.heal()?;
        cluster.leader().await?;
    }
    let Err(found) = run.judge(&mut cluster).await else { bail!("nothing was found") };
    ensure!(found.to_string().contains("RealTime"), "found instead: {found:#}");
    Ok(())
}

mod planted {
    use super::stale_reads_are_found;
    e2e::on_both_targets!(unlimited: stale_reads_are_found);
}

/// One test for each fault.
macro_rules! faults {
    ($($name:ident: $fault:ident;)*) => {
        $(async fn $name(target: Target) -> Result<()> {
            histories(target, Fault::$fault).await
        })*
        e2e::on_both_targets!(unlimited: $($name),*);
    };
}

faults! {
    the_leader_is_killed: KillLeader;
    a_follower_is_killed: KillFollower;
    two_are_killed: KillTwo;
    all_are_killed: KillAll;
    members_are_killed_in_turns: KillInTurns;
    the_leader_is_frozen: FreezeLeader;
    a_follower_is_frozen: FreezeFollower;
    all_are_frozen: FreezeAll;
    the_leader_is_cut_off: CutOffLeader;
    a_follower_is_cut_off: CutOffFollower;
    all_are_cut_off: CutAll;
    wires_are_cut_one_way: CutOneWay;
    the_leader_is_cut_off_by_packet_filters: FilterLeader;
    packets_are_lost: LosePackets;
    wires_are_slow: SlowWires;
    a_disk_is_full: FillDisk;
    a_follower_falls_behind: FallBehind;
    members_are_restarted_in_turns: RestartInTurns;
    the_leader_is_moved: MoveLeader;
    a_member_is_replaced: ReplaceMember;
    every_member_is_replaced: ReplaceAll;
    one_member_becomes_five_and_three: GrowAndShrink;
}
