//! What kind of run a seed gives: each has its own mix of faults, so that rare ones also meet quiet surroundings.

use crate::dice::{Dice, MS, Micros, SECOND};

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub members: u64,
    pub clients: u64,
    /// Between two requests of one client.
    pub think: Micros,
    pub watchers: u64,
    pub request_timeout: Micros,
    pub tick: Micros,
    pub election_ticks: u64,
    pub pre_vote: bool,
    pub wal_segment_bytes: u64,
    /// Entries the log keeps behind what the backend has.
    pub catchup_entries: u64,
    /// Entries kept in memory.
    pub kept_entries: usize,
    pub backend_interval: Micros,
    pub disk_sync: Micros,
    pub network_delay: Micros,
    /// Of a million messages.
    pub loss: u64,
    pub duplication: u64,
    pub compaction_every: Micros,
    pub lease_checkpoints: bool,
    /// Of a hundred requests of who has a lease, so many renew it.
    pub renewals: u64,
    /// The longest time to live that is asked for, in seconds.
    pub ttl_max: u64,
    /// Whether the cluster may become smaller than three.
    pub shrinks: bool,
    /// Of a hundred batches, so many are applied slowly.
    pub slow_apply: u64,
    /// Mean time between faults; 0 for none.
    pub fault_every: Micros,
    /// Mean time until a crashed member is started again.
    pub restart: Micros,
    pub faults: Faults,
    /// Whether the operator leaves changes of the members where their leader was lost, and begins others.
    pub fickle: bool,
}

/// Which kinds of faults strike at all.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub crash: bool,
    pub crash_all: bool,
    pub pause: bool,
    pub partition: bool,
    pub one_way: bool,
    pub isolate_leader: bool,
    pub bad_link: bool,
    pub disk_full: bool,
    pub disk_error: bool,
    pub disk_slow: bool,
    pub rot: bool,
    pub clock: bool,
    pub membership: bool,
    pub transfer: bool,
}

impl Plan {
    /// What `seed` is made into.
    pub fn of(seed: u64) -> Plan {
        let mut dice = Dice::new(seed ^ 0x706c_616e);
        let members = *dice.pick(&[3, 3, 3, 5]).expect("not empty");
        let catchup_entries = *dice.pick(&[5, 20, 100, 1000]).expect("not empty");
        let often = |dice: &mut Dice| dice.percent(70);
        let seldom = |dice: &mut Dice| dice.percent(35);
        let faults = Faults {
            crash: often(&mut dice),
            crash_all: seldom(&mut dice),
            pause: often(&mut dice),
            partition: often(&mut dice),
            one_way: seldom(&mut dice),
            isolate_leader: often(&mut dice),
            bad_link: seldom(&mut dice),
            disk_full: seldom(&mut dice),
            disk_error: seldom(&mut dice),
            disk_slow: seldom(&mut dice),
            rot: seldom(&mut dice),
            clock: seldom(&mut dice),
            membership: seldom(&mut dice),
            transfer: seldom(&mut dice),
        };
        Plan {
            members,
            clients: dice.between(2, 6),
            think: dice.between(200, 1500) * MS,
            watchers: dice.between(1, 4),
            request_timeout: dice.between(1, 7) * SECOND,
            tick: 100 * MS,
            election_ticks: 10,
            pre_vote: dice.percent(85),
            wal_segment_bytes: *dice.pick(&[16 << 10, 64 << 10, 1 << 20]).expect("not empty"),
            catchup_entries,
            kept_entries: *dice.pick(&[4, 50, 1000]).expect("not empty"),
            backend_interval: *dice.pick(&[100 * MS, SECOND, 5 * SECOND]).expect("not empty"),
            disk_sync: dice.between(50, 3000),
            network_delay: dice.between(50, 3000),
            loss: *dice.pick(&[0, 0, 1000, 20_000]).expect("not empty"),
            duplication: *dice.pick(&[0, 0, 1000, 10_000]).expect("not empty"),
            compaction_every: dice.between(20, 120) * SECOND,
            lease_checkpoints: dice.percent(30),
            renewals: *dice.pick(&[16, 16, 50]).expect("not empty"),
            ttl_max: *dice.pick(&[4, 30, 30]).expect("not empty"),
            shrinks: dice.percent(20),
            slow_apply: *dice.pick(&[1, 2, 20]).expect("not empty"),
            fault_every: dice.between(2, 40) * SECOND,
            restart: *dice.pick(&[50 * MS, SECOND, 5 * SECOND, 20 * SECOND]).expect("not empty"),
            faults,
            fickle: dice.percent(30),
        }
    }
}
