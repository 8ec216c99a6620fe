//! What a run did, for reports.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Simulated.
    pub microseconds: u64,
    pub runs: u64,
    pub events: u64,
    pub operations: u64,
    pub acknowledged: u64,
    pub unknown: u64,
    pub watch_events: u64,
    pub elections: u64,
    pub snapshots: u64,
    pub applied_entries: u64,
    pub restarts: u64,
    pub lease_expiries: u64,
    pub messages: u64,
    pub faults: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Counts) {
        self.microseconds += other.microseconds;
        self.runs += other.runs;
        self.events += other.events;
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.watch_events += other.watch_events;
        self.elections += other.elections;
        self.snapshots += other.snapshots;
        self.applied_entries += other.applied_entries;
        self.restarts += other.restarts;
        self.lease_expiries += other.lease_expiries;
        self.messages += other.messages;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.microseconds as f64 / 3.6e9;
        writeln!(f, "{hours:.2} simulated cluster-hours in {} runs, {} events", self.runs, self.events)?;
        writeln!(
            f,
            "{} operations ({} acknowledged, {} unknown), {} watch events, {} lease expiries",
            self.operations, self.acknowledged, self.unknown, self.watch_events, self.lease_expiries
        )?;
        writeln!(
            f,
            "{} elections, {} snapshots installed, {} restarts, {} entries applied, {} messages",
            self.elections, self.snapshots, self.restarts, self.applied_entries, self.messages
        )?;
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(f, "faults: {}", faults.join(", "))
    }
}
