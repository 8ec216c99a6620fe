//! `sim many`: seed after seed, on threads.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use env::{Clock, SystemClock};
use sim::{Counts, Found, Plant, Report};

use crate::{Many, plant_named, say, simulate, tell_found};

/// What many runs have come to.
#[derive(Default)]
struct Total {
    counts: Counts,
    failed: u64,
    last: u64,
}

const MICROSECONDS_PER_HOUR: u64 = 3_600_000_000;
const UNPOISONED: &str = "no thread panics with it";

/// What the threads share.
struct Runs {
    asked: Many,
    plant: Option<Plant>,
    clock: SystemClock,
    next: AtomicU64,
    /// The seed after the last.
    end: u64,
    wanted_microseconds: u64,
    total: Mutex<Total>,
}

/// How a thread ends.
enum ThreadEnd {
    Done,
    /// Its run cannot go on, and the thread will not return.
    Stuck {
        seed: u64,
        is_excused: bool,
        what: String,
    },
}

/// Where a thread is.
struct Place {
    seed: u64,
    ends: Sender<ThreadEnd>,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Runs what is asked for, and tells what came of it. Returns whether all held.
pub(crate) fn run(asked: Many) -> anyhow::Result<bool> {
    let plant = plant_named(asked.plant.as_deref())?;
    let count = asked.count.unwrap_or(if asked.hours.is_some() { u64::MAX } else { 100 });
    let runs = Arc::new(Runs {
        plant,
        clock: SystemClock::default(),
        next: AtomicU64::new(asked.from),
        end: asked.from.saturating_add(count),
        wanted_microseconds: asked.hours.map_or(0, |hours| hours * MICROSECONDS_PER_HOUR),
        total: Mutex::default(),
        asked,
    });
    let (ends, ended) = channel();
    let mut running = 0;
    for _ in 0..runs.asked.threads.max(1) {
        start(&runs, &ends)?;
        running += 1;
    }
    while running > 0 {
        running -= 1;
        let ThreadEnd::Stuck { seed, is_excused, what } = ended.recv()? else { continue };
        if is_excused {
            say(&format!("rotten: seed {seed} aborts, and is not counted: {what}"));
        } else {
            let found = Some(Found { at: 0, rule: "Abort".to_owned(), what });
            runs.add(seed, &Report { counts: Counts { runs: 1, ..Counts::default() }, trace: 0, found });
        }
        // Another goes on in its place.
        start(&runs, &ends)?;
        running += 1;
    }
    Ok(runs.tell())
}

fn start(runs: &Arc<Runs>, ends: &Sender<ThreadEnd>) -> io::Result<()> {
    let (runs, ends) = (Arc::clone(runs), ends.clone());
    let work = move || {
        runs.go_on(&ends);
        // The other end waits for it.
        let _ = ends.send(ThreadEnd::Done);
    };
    std::thread::Builder::new().name("runs".into()).spawn(work).map(drop)
}

impl Runs {
    fn is_enough(&self) -> bool {
        let is_reached = |total: &Total| total.counts.microseconds >= self.wanted_microseconds;
        self.asked.hours.is_some() && is_reached(&self.total.lock().expect(UNPOISONED))
    }

    fn go_on(&self, ends: &Sender<ThreadEnd>) {
        let time_limit = self.asked.seconds.map_or(Duration::MAX, Duration::from_secs);
        while self.clock.now().0 < time_limit && !self.is_enough() {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                break;
            }
            PLACE.set(Some(Place { seed, ends: ends.clone() }));
            self.add(seed, &simulate(seed, self.asked.minutes, self.plant, false));
        }
    }

    fn add(&self, seed: u64, report: &Report) {
        tell_found(seed, self.asked.minutes, self.plant, report);
        let mut total = self.total.lock().expect(UNPOISONED);
        total.counts.add(&report.counts);
        total.failed += u64::from(report.found.is_some());
        total.last = total.last.max(seed);
    }

    fn tell(&self) -> bool {
        let Total { counts, failed, last } = &*self.total.lock().expect(UNPOISONED);
        let (took, threads, from) = (self.clock.now().0.as_secs_f64(), self.asked.threads.max(1), self.asked.from);
        let hours = counts.microseconds as f64 / MICROSECONDS_PER_HOUR as f64;
        let rate = hours * 60.0 / took / threads as f64;
        say(&format!("{counts}\n{took:.1} s on {threads} threads, {rate:.2} cluster-hours a minute and thread"));
        let asked = self.asked.hours.map_or_else(String::new, |hours| format!(" of {hours}"));
        say(&format!("seeds {from} to {last}: {hours:.2}{asked} cluster-hours with faults, {failed} violations"));
        let are_enough = counts.microseconds >= self.wanted_microseconds;
        if !are_enough {
            say("fewer hours than asked for");
        }
        *failed == 0 && counts.runs > 0 && are_enough
    }
}

/// For the panic hook, about a panic that nothing can catch: the run on this thread is over. Where it is one of many, the thread
/// waits for the end of the process while another goes on; elsewhere this returns, and the process aborts.
pub(crate) fn no_return(first: &str, second: &str) {
    let what = format!("{second}, because of: {first}");
    let is_excused = sim::is_abort_excused();
    let Some(Place { seed, ends }) = PLACE.take() else {
        let excuse = if is_excused { "; a disk had rotted, which excuses it" } else { "" };
        say(&format!("FOUND Abort: {what}{excuse}"));
        return;
    };
    // The other end waits for it.
    let _ = ends.send(ThreadEnd::Stuck { seed, is_excused, what });
    loop {
        std::thread::park();
    }
}
