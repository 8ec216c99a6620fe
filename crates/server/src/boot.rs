//! From what lies on disk to the parts of a running member.
//!
//! Reads backend and log, checks that they fit, and hands out consensus, log and machine in a state from which the
//! replay of the log's tail leads to what was acknowledged. A directory without data becomes a new cluster of one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backend::{Backend, BackendError};
use consensus::{ConsensusError, Driver, DriverConfig, Restored};
use env::{Disk, Rng};
use lease::LessorOptions;
use machine::{Machine, MachineError, MachineOptions};
use mvcc::StoreOptions;
use types::{ClusterId, HardState, Index, LogEntry, MemberId, Term};
use wal::{Wal, WalError, WalMeta, WalOptions};

use crate::bootstrap::{Bootstrap, NotAMember, standalone};
use crate::layout::{Layout, Place};
use crate::settings::{InitialState, Settings};
use crate::shared::{COMPATIBLE_VERSION, Identity};

/// Why a member does not start. Nothing was changed on disk unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "{flag} {path} holds data of etcd itself, which Quorate does not read; `quorateutl migrate` will convert it \
         once it is there. Choose another directory"
    )]
    EtcdData { flag: &'static str, path: PathBuf },
    #[error("--data-dir {path} holds files that are not Quorate's ({names}); choose an empty directory")]
    ForeignData { path: PathBuf, names: String },
    #[error("{flag} {path} is in use by another process")]
    Locked { flag: &'static str, path: PathBuf },
    #[error("{flag} {path}: {source}")]
    Directory { flag: &'static str, path: PathBuf, source: io::Error },
    #[error("{log} is missing, but {state} reflects the log up to {applied}; restore the log, or move both away")]
    LogMissing { log: PathBuf, state: PathBuf, applied: Index },
    #[error(
        "{log} begins at {first}, but {state} needs it from {needed} on; the two do not belong together, restore both \
         from the same copy"
    )]
    Gap { log: PathBuf, state: PathBuf, first: Index, needed: Index },
    #[error("{log} and {state} do not belong together ({what}); restore both from the same copy")]
    Mismatch { log: PathBuf, state: PathBuf, what: String },
    #[error(
        "--data-dir {path}: the first start was cut short before the log held anything, and these flags do not lead to the \
         same member and cluster; remove the directory and start again"
    )]
    CutShort { path: PathBuf },
    #[error(transparent)]
    NotAMember(#[from] NotAMember),
    #[error(transparent)]
    Log(#[from] WalError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("the member stopped while it started: {0}")]
    Stopped(String),
}

/// The parts of a member, before any thread runs.
pub struct Core {
    pub identity: Identity,
    pub driver: Driver,
    pub wal: Wal,
    pub machine: Machine,
    pub backend: Backend,
}

/// The heartbeat interval is the unit in which raft counts.
const HEARTBEAT_TICKS: usize = 1;
const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Entries kept in memory take at most this much.
const KEPT_ENTRIES_BYTES_MAX: usize = 16 << 20;

/// Whether a member has lived where `settings` point to.
///
/// # Errors
/// If the directories cannot be read.
pub fn holds_data(settings: &Settings, disk: &dyn Disk) -> Result<bool, StartError> {
    let layout = Layout::new(&settings.data_dir, settings.wal_dir.as_deref());
    for Place { flag, path } in layout.places() {
        match disk.list(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::Directory { flag, path, source });
            }
            _ => {}
        }
    }
    Ok(Wal::exists(disk, &layout.wal)? || Backend::exists(disk, &layout.state)?)
}

/// Opens, or makes, the member that `settings` describe. Where there is no data, `begin` says what to make; otherwise it
/// does not count. The caller holds the directory's lock.
///
/// # Errors
/// [`StartError`]; each says what to do.
pub fn boot(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    settings: &Settings,
    begin: &Bootstrap,
    rng: Box<dyn Rng>,
) -> Result<Core, StartError> {
    let wal_options = WalOptions { segment_size_bytes: settings.wal_segment_size_bytes };
    // One that is missing is made only once the log is known to hold everything.
    let mut state = open_state_if_there(disk, layout)?;
    let mut applied = state.as_ref().map(Backend::applied).unwrap_or_default();
    if !Wal::exists(disk.as_ref(), &layout.wal)? {
        if applied.0 > Index(0) {
            let (log, state) = (layout.wal.clone(), layout.state.clone());
            return Err(StartError::LogMissing { log, state, applied: applied.0 });
        }
        let Some(meta) = first_ids(settings, begin) else {
            let (log, state) = (layout.wal.clone(), layout.state.clone());
            return Err(StartError::LogMissing { log, state, applied: applied.0 });
        };
        drop(Wal::create(disk.clone(), &layout.wal, meta, wal_options)?);
    }
    // A member that is to go on alone goes by its state, whatever the log has lost of what led there.
    let must_hold = if settings.force_new_cluster { Index(0) } else { applied.0 };
    let (mut wal, mut recovered) = Wal::open(disk.clone(), &layout.wal, wal_options, must_hold, applied.0.next())?;
    if let Some(tail) = &recovered.torn_tail {
        tracing::warn!(?tail, "cut off an unfinished write at the end of the log; nothing in it was acknowledged");
    }
    if settle_received(disk, layout, &recovered, applied.0)? {
        drop(state);
        state = open_state_if_there(disk, layout)?;
        applied = state.as_ref().map(Backend::applied).unwrap_or_default();
    }
    let needed = applied.0.next();
    if recovered.first > needed {
        let (log, state) = (layout.wal.clone(), layout.state.clone());
        return Err(StartError::Gap { log, state, first: recovered.first, needed });
    }
    let backend = state.map_or_else(|| open_state(disk, layout), Ok)?;
    let WalMeta { cluster, member } = recovered.meta;
    let machine = Machine::restore(backend.clone(), machine_options(settings))?;
    require_same_member(layout, settings.initial_state, &wal, member, &machine, applied)?;
    let (mut hard_state, mut entries) = (recovered.hard_state, recovered.entries);
    entries.retain(|entry| entry.index > applied.0);
    let is_blank = recovered.last == Index(0) && applied.0 == Index(0) && hard_state == HardState::default();
    let added = if is_blank {
        let first = first_entries(settings, begin, recovered.meta);
        // One that was to join is waited for by others; one that was to found would wait for ever.
        if first.is_none() && *begin == Bootstrap::Restart && settings.initial_state == InitialState::New {
            return Err(StartError::CutShort { path: layout.root.clone() });
        }
        first
    } else if settings.force_new_cluster {
        let membership = machine.shared().membership();
        let (learners_max, tail) = (settings.learners_max, &entries);
        let alone = standalone(member, &membership, applied, hard_state, tail, learners_max)?;
        if recovered.last < applied.0 {
            let (last, state) = (recovered.last, applied.0);
            tracing::warn!(%last, %state, "the log ends before what the state reflects; it begins anew after that");
            wal.restart_at(applied.0, applied.1)?;
            recovered.terms = vec![applied];
        }
        Some(alone)
    } else {
        None
    };
    if let Some((hard_state_now, added)) = added {
        wal.append(&added, Some(hard_state_now))?;
        wal.sync()?;
        hard_state = hard_state_now;
        entries.extend(added);
    }
    let (voters, learners) = voters_and_learners(&machine);
    let terms = terms_until(applied, &recovered.terms);
    let restored = Restored { hard_state, voters, learners, applied, terms, before_first: applied.0, entries };
    let driver = Driver::new(driver_config(settings, member), restored, rng)?;
    let identity = Identity { cluster_id: cluster, member_id: member, version: COMPATIBLE_VERSION };
    Ok(Core { identity, driver, wal, machine, backend })
}

fn open_state(disk: &Arc<dyn Disk>, layout: &Layout) -> Result<Backend, StartError> {
    Ok(Backend::open(disk.clone(), &layout.state, backend::Options::default())?)
}

fn open_state_if_there(disk: &Arc<dyn Disk>, layout: &Layout) -> Result<Option<Backend>, StartError> {
    Backend::exists(disk.as_ref(), &layout.state)?.then(|| open_state(disk, layout)).transpose()
}

/// A snapshot that was received takes the state's place if the log was begun anew after it, which is the moment from which
/// it counts; otherwise it is of no use any more. Returns whether it did.
fn settle_received(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    recovered: &wal::Recovered,
    applied: Index,
) -> Result<bool, StartError> {
    let Some((received, _)) = Backend::received(disk.as_ref(), &layout.state)? else { return Ok(false) };
    if received > applied && recovered.first == received.next() {
        Backend::adopt_at_boot(disk.as_ref(), &layout.state)?;
        tracing::info!(index = received.0, "installed the snapshot that was received before the last stop");
        return Ok(true);
    }
    Backend::discard_received(disk.as_ref(), &layout.state)?;
    Ok(false)
}

/// Where terms begin in the log up to what is applied: what followers may still be sent from there.
fn terms_until(applied: (Index, Term), terms: &[(Index, Term)]) -> Vec<(Index, Term)> {
    let known = terms.iter().copied().filter(|(from, _)| *from <= applied.0).collect::<Vec<_>>();
    if known.is_empty() { vec![applied] } else { known }
}

/// Checks that the log is that of the member whose state it is to continue.
fn require_same_member(
    layout: &Layout,
    initial_state: InitialState,
    wal: &Wal,
    member: MemberId,
    machine: &Machine,
    applied: (Index, Term),
) -> Result<(), StartError> {
    let (index, term) = applied;
    if index == Index(0) {
        return Ok(());
    }
    let mismatch = |what| StartError::Mismatch { log: layout.wal.clone(), state: layout.state.clone(), what };
    let membership = machine.shared().membership();
    let is_known = membership.member(member).is_some() || membership.is_removed(member);
    // One that joins has what came before its own addition first, and may have been stopped there.
    if !is_known && initial_state == InitialState::New {
        let what = format!(
            "the log is of member {member}, which the state does not know; if it was about to join, start it with \
             --initial-cluster-state=existing"
        );
        return Err(mismatch(what));
    }
    if index < wal.first() {
        return Ok(());
    }
    match wal.read(index, index.next(), 0)?.first() {
        Some(entry) if entry.term != term => {
            let what = format!("entry {index} has term {} in the log, {} in the state", entry.term.0, term.0);
            Err(mismatch(what))
        }
        _ => Ok(()),
    }
}

/// Whose log a new one is.
fn first_ids(settings: &Settings, begin: &Bootstrap) -> Option<WalMeta> {
    match begin {
        Bootstrap::NewCluster { cluster, member, .. } | Bootstrap::Join { cluster, member, .. } => {
            Some(WalMeta { cluster: *cluster, member: *member })
        }
        Bootstrap::Restart => founded(settings).map(|(cluster, member, ..)| WalMeta { cluster, member }),
    }
}

/// What the log of a new cluster begins with. One that joins begins with nothing, and so does the log of a member that
/// did not get further than to make it before it was killed: if it was to found a cluster, it does so now.
fn first_entries(settings: &Settings, begin: &Bootstrap, meta: WalMeta) -> Option<(HardState, Vec<LogEntry>)> {
    match begin {
        Bootstrap::NewCluster { hard_state, entries, .. } => Some((*hard_state, entries.clone())),
        Bootstrap::Join { .. } => None,
        Bootstrap::Restart => founded(settings)
            .filter(|(cluster, member, ..)| (*cluster, *member) == (meta.cluster, meta.member))
            .map(|(_, _, hard_state, entries)| (hard_state, entries)),
    }
}

fn founded(settings: &Settings) -> Option<(ClusterId, MemberId, HardState, Vec<LogEntry>)> {
    match Bootstrap::founding(&settings.initial_cluster, &settings.name) {
        Some(Bootstrap::NewCluster { cluster, member, hard_state, entries, .. }) => {
            Some((cluster, member, hard_state, entries))
        }
        _ => None,
    }
}

fn machine_options(settings: &Settings) -> MachineOptions {
    let election_ms = settings.election_timeout.as_millis() as i64;
    // One and a half election timeouts, in whole seconds.
    let ttl_min = (election_ms * 3 + 1999) / 2000;
    let checkpoint_interval = settings.lease_checkpoints.then_some(LEASE_CHECKPOINT_INTERVAL);
    MachineOptions {
        store: StoreOptions {
            value_budget_bytes: settings.value_budget_bytes,
            restore_threads: settings.restore_threads,
        },
        lessor: LessorOptions { ttl_min, checkpoint_interval },
        learners_max: settings.learners_max,
        persist_checkpoints: settings.lease_checkpoints_persist,
    }
}

fn voters_and_learners(machine: &Machine) -> (Vec<MemberId>, Vec<MemberId>) {
    let state = machine.shared().membership().conf_state();
    (state.voters, state.learners)
}

fn driver_config(settings: &Settings, id: MemberId) -> DriverConfig {
    let ticks = settings.election_timeout.as_millis() / settings.heartbeat_interval.as_millis().max(1);
    DriverConfig {
        id,
        heartbeat_ticks: HEARTBEAT_TICKS,
        election_ticks: ticks as usize,
        pre_vote: settings.pre_vote,
        kept_entries_max: settings.catchup_entries as usize,
        kept_bytes_max: KEPT_ENTRIES_BYTES_MAX,
    }
}
