//! A member's start: the server's own, with settings that make everything small.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backend::Backend;
use consensus::{Driver, DriverConfig, Restored};
use env::{Disk, Rng};
use machine::Machine;
use membership::Member;
use server::{Bootstrap, InitialState, Layout, Settings};
use types::{Index, InitialCluster, MemberId};
use wal::{Recovered, Wal, WalOptions};

use crate::plan::Plan;
use crate::planted::Plant;

pub(crate) const STATE: &str = "m/state.redb";
pub(crate) const LOG: &str = "m/wal";
const ROOT: &str = "m";

pub(crate) struct Parts {
    pub(crate) driver: Driver,
    pub(crate) wal: Wal,
    pub(crate) machine: Machine,
    pub(crate) backend: Backend,
}

/// The members that the cluster begins with, by id: what each is called.
pub(crate) fn founders(plan: &Plan) -> Vec<(MemberId, String)> {
    let cluster = initial_cluster(plan);
    let founder = |name: &str| match Bootstrap::founding(&cluster, name) {
        Some(Bootstrap::NewCluster { member, .. }) => (member, name.to_owned()),
        _ => unreachable!("every name is one of the cluster's"),
    };
    cluster.members().iter().map(|member| founder(&member.name)).collect()
}

fn initial_cluster(plan: &Plan) -> InitialCluster {
    InitialCluster::new(
        "sim",
        (1..=plan.members).map(|number| (format!("m{number}"), format!("http://m{number}:2380"))),
    )
}

/// One that is added later.
pub(crate) fn learner(id: MemberId) -> Member {
    Member { id, peer_urls: vec![format!("http://later{id}:2380")], is_learner: true, ..Member::default() }
}

fn settings(plan: &Plan, name: Option<&str>) -> Settings {
    let mut settings = Settings::new(PathBuf::from(ROOT));
    settings.name = name.unwrap_or("later").to_owned();
    settings.initial_cluster = initial_cluster(plan);
    settings.initial_state = name.map_or(InitialState::Existing, |_| InitialState::New);
    settings.heartbeat_interval = Duration::from_micros(plan.tick);
    settings.election_timeout = Duration::from_micros(plan.tick * plan.election_ticks);
    settings.pre_vote = plan.pre_vote;
    settings.value_budget_bytes = 4096;
    settings.catchup_entries = plan.kept_entries as u64;
    settings.lease_checkpoints = plan.lease_checkpoints;
    settings.lease_checkpoints_persist = plan.lease_checkpoints;
    settings.wal_segment_size_bytes = plan.wal_segment_bytes;
    settings
}

/// Starts the member `id` with whatever its disk holds. `name` is that of a founder, `None` for who joins later.
///
/// # Errors
/// Why the member does not start.
pub(crate) fn boot(
    disk: &Arc<dyn Disk>,
    plan: &Plan,
    plant: Option<Plant>,
    (id, name): (MemberId, Option<&str>),
    (rng, other_rng): (Box<dyn Rng>, Box<dyn Rng>),
) -> Result<Parts, String> {
    let settings = settings(plan, name);
    let layout = Layout::new(&settings.data_dir, None);
    layout.create_root(&**disk).map_err(text)?;
    let begin = if server::holds_data(&settings, &**disk).map_err(text)? {
        Bootstrap::Restart
    } else {
        let join = || Bootstrap::Join { cluster: types::ClusterId(0xc1), member: id, remotes: Vec::new() };
        name.and_then(|name| Bootstrap::founding(&settings.initial_cluster, name)).unwrap_or_else(join)
    };
    let found = match plant.filter(|plant| plant.forgets()) {
        Some(plant) => remembered(disk, &layout, plan)?.map(|recovered| (plant, recovered)),
        None => None,
    };
    let core = server::boot(disk, &layout, &settings, &begin, rng).map_err(text)?;
    let mut parts = Parts { driver: core.driver, wal: core.wal, machine: core.machine, backend: core.backend };
    if let Some((plant, recovered)) = found {
        parts.driver = forgetful(plant, recovered, &parts, plan, id, other_rng)?;
    }
    Ok(parts)
}

/// What the log holds, for those who are to forget some of it.
fn remembered(disk: &Arc<dyn Disk>, layout: &Layout, plan: &Plan) -> Result<Option<Recovered>, String> {
    if !Wal::exists(&**disk, &layout.wal).map_err(text)? || !Backend::exists(&**disk, &layout.state).map_err(text)? {
        return Ok(None);
    }
    let applied = Backend::open(disk.clone(), Path::new(STATE), backend_options()).map_err(text)?.applied().0;
    let options = WalOptions { segment_size_bytes: plan.wal_segment_bytes };
    let (_, recovered) = Wal::open(disk.clone(), &layout.wal, options, applied, applied.next()).map_err(text)?;
    Ok((recovered.first <= applied.next()).then_some(recovered))
}

/// Consensus as it is without what the plant says is forgotten.
fn forgetful(
    plant: Plant,
    recovered: Recovered,
    parts: &Parts,
    plan: &Plan,
    id: MemberId,
    rng: Box<dyn Rng>,
) -> Result<Driver, String> {
    let Recovered { mut hard_state, mut entries, .. } = recovered;
    match plant {
        Plant::ForgetHardState => {
            hard_state.vote = MemberId(0);
            hard_state.term = entries.last().map_or(hard_state.term, |last| last.term);
        }
        Plant::TruncateTail if entries.len() > 2 => {
            entries.truncate(entries.len() - 2);
            hard_state.commit = hard_state.commit.min(entries.last().map_or(Index(0), |last| last.index));
        }
        _ => hard_state.vote = MemberId(0),
    }
    let applied = parts.backend.applied();
    let members = parts.machine.shared().membership().conf_state();
    let restored = Restored {
        hard_state,
        voters: members.voters,
        learners: members.learners,
        applied,
        terms: vec![applied],
        before_first: applied.0,
        entries,
    };
    let config = DriverConfig {
        id,
        heartbeat_ticks: 1,
        election_ticks: plan.election_ticks as usize,
        pre_vote: plan.pre_vote,
        kept_entries_max: plan.kept_entries,
        kept_bytes_max: 1 << 20,
    };
    Driver::new(config, restored, rng).map_err(text)
}

pub(crate) fn backend_options() -> backend::Options {
    backend::Options { cache_size_bytes: 1 << 20 }
}

#[allow(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
