//! From a disk to the parts of a member, as `server::boot` does it for one member, with what several need.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend::Backend;
use consensus::{Driver, DriverConfig, Restored};
use env::{Disk, Rng};
use lease::LessorOptions;
use machine::{Machine, MachineOptions};
use membership::{Change, Member};
use mvcc::StoreOptions;
use types::{ClusterId, EntryKind, HardState, Index, LogEntry, MemberId, Term};
use wal::{Wal, WalMeta, WalOptions};

use crate::plan::Plan;
use crate::planted::Plant;

pub(crate) const ROOT: &str = "m";
pub(crate) const WAL: &str = "m/wal";
pub(crate) const STATE: &str = "m/state.redb";

const CLUSTER: ClusterId = ClusterId(0xc1);

pub(crate) struct Parts {
    pub(crate) driver: Driver,
    pub(crate) wal: Wal,
    pub(crate) machine: Machine,
    pub(crate) backend: Backend,
}

/// Opens or makes the member `id`. `founders` are those that the cluster begins with, `None` for who joins later.
///
/// # Errors
/// Why the member does not start.
pub(crate) fn boot(
    disk: &Arc<dyn Disk>,
    plan: &Plan,
    plant: Option<Plant>,
    id: MemberId,
    founders: Option<&[MemberId]>,
    rng: Box<dyn Rng>,
) -> Result<Parts, String> {
    let options = WalOptions { segment_size_bytes: plan.wal_segment_bytes };
    create_root(&**disk).map_err(|error| format!("{ROOT}: {error}"))?;
    let mut backend = open_state(disk)?;
    let mut applied = backend.applied();
    if !Wal::exists(&**disk, Path::new(WAL)).map_err(text)? {
        if applied.0 > Index(0) {
            return Err(format!("the log is missing, but the state reflects it up to {}", applied.0));
        }
        let meta = WalMeta { cluster: CLUSTER, member: id };
        drop(Wal::create(disk.clone(), Path::new(WAL), meta, options).map_err(text)?);
    }
    let open = |applied: (Index, Term)| {
        Wal::open(disk.clone(), Path::new(WAL), options, applied.0, applied.0.next()).map_err(text)
    };
    let (mut wal, mut recovered) = open(applied)?;
    let state = Path::new(STATE);
    if recovered.first > applied.0.next() {
        // The log was begun anew for a received state, which has not got its place yet.
        let received = Backend::received(&**disk, state).map_err(text)?.map(|(index, _)| index);
        if received.map(Index::next) != Some(recovered.first) {
            let needed = applied.0.next();
            return Err(format!("the log begins at {}, the state needs it from {needed} on", recovered.first));
        }
        drop((wal, backend));
        Backend::adopt_at_boot(&**disk, state).map_err(text)?;
        backend = open_state(disk)?;
        applied = backend.applied();
        (wal, recovered) = open(applied)?;
    } else {
        Backend::discard_received(&**disk, state).map_err(text)?;
    }
    let machine = Machine::restore(backend.clone(), machine_options(plan)).map_err(text)?;
    let (mut hard_state, mut entries) = (recovered.hard_state, recovered.entries);
    let is_new = applied.0 == Index(0) && entries.is_empty() && hard_state == HardState::default();
    if let Some(founders) = founders.filter(|_| is_new) {
        (hard_state, entries) = first_entries(founders);
        wal.append(&entries, Some(hard_state)).map_err(text)?;
        wal.sync().map_err(text)?;
    }
    plant_into(plant, &mut hard_state, &mut entries);
    let members = machine.shared().membership().conf_state();
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
    let driver = Driver::new(config, restored, rng).map_err(text)?;
    Ok(Parts { driver, wal, machine, backend })
}

/// What a member that forgets would find.
fn plant_into(plant: Option<Plant>, hard_state: &mut HardState, entries: &mut Vec<LogEntry>) {
    match plant {
        Some(Plant::ForgetVote) => hard_state.vote = MemberId(0),
        Some(Plant::ForgetHardState) => {
            hard_state.vote = MemberId(0);
            hard_state.term = entries.last().map_or(hard_state.term, |last| last.term);
        }
        Some(Plant::TruncateTail) if entries.len() > 2 => {
            entries.truncate(entries.len() - 2);
            let last = entries.last().map_or(Index(0), |last| last.index);
            hard_state.commit = hard_state.commit.min(last);
        }
        _ => {}
    }
}

fn first_entries(founders: &[MemberId]) -> (HardState, Vec<LogEntry>) {
    let entries = founders.iter().enumerate().map(|(at, &id)| LogEntry {
        term: Term(1),
        index: Index(at as u64 + 1),
        kind: EntryKind::ConfChange,
        data: machine::encode_conf_change(0, &Change::Add(member(id, false))),
    });
    let commit = Index(founders.len() as u64);
    (HardState { term: Term(1), vote: MemberId(0), commit }, entries.collect())
}

pub(crate) fn member(id: MemberId, is_learner: bool) -> Member {
    Member { id, peer_urls: vec![format!("http://m{id}:2380")], is_learner, ..Member::default() }
}

pub(crate) fn machine_options(plan: &Plan) -> MachineOptions {
    let checkpoint_interval = plan.lease_checkpoints.then_some(Duration::from_secs(20));
    MachineOptions {
        store: StoreOptions { value_budget_bytes: 4096, restore_threads: 1 },
        lessor: LessorOptions { ttl_min: 2, checkpoint_interval },
        persist_checkpoints: plan.lease_checkpoints,
        ..MachineOptions::default()
    }
}

pub(crate) fn backend_options() -> backend::Options {
    backend::Options { cache_size_bytes: 1 << 20 }
}

fn open_state(disk: &Arc<dyn Disk>) -> Result<Backend, String> {
    Backend::open(disk.clone(), Path::new(STATE), backend_options()).map_err(text)
}

fn create_root(disk: &dyn Disk) -> io::Result<()> {
    disk.create_dir_all(Path::new(ROOT))?;
    disk.sync_dir(Path::new("."))
}

#[allow(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
