//! `sim`: runs simulated clusters.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use env::{Clock, SystemClock};
use sim::{Counts, Found, Plan, Plant, Report, World};

#[derive(Parser)]
#[command(name = "sim", about = "Whole clusters in one thread, from one seed.")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Runs one seed and says what came of it.
    Run(Run),
    /// Runs one seed again and tells every step.
    Replay(Run),
    /// Runs many seeds.
    Many(Many),
    /// Runs with each planted fault until it is found.
    Planted(Planted),
}

#[derive(Args)]
struct Run {
    #[arg(long)]
    seed: u64,
    /// Simulated minutes of faults.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Simulated hours, in place of minutes.
    #[arg(long)]
    hours: Option<u64>,
    /// With this planted fault.
    #[arg(long)]
    plant: Option<String>,
}

#[derive(Args)]
struct Many {
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// So many seeds, 100 if no hours are asked for.
    #[arg(long)]
    count: Option<u64>,
    /// Simulated cluster-hours, of all runs together: no run begins once they are reached, and fewer are a failure.
    #[arg(long)]
    hours: Option<u64>,
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Begins no new run after so many real seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// With this planted fault.
    #[arg(long)]
    plant: Option<String>,
}

#[derive(Args)]
struct Planted {
    /// Only this one.
    #[arg(long)]
    plant: Option<String>,
    /// Real seconds for each.
    #[arg(long, default_value_t = 600)]
    budget: u64,
    #[arg(long, default_value_t = 5)]
    minutes: u64,
}

fn main() -> ExitCode {
    let usual = std::panic::take_hook();
    // What a run ends with is told with its seed.
    std::panic::set_hook(Box::new(move |panic| {
        if !env::is_panic_caught() {
            usual(panic);
        }
    }));
    let done = match Command::parse().what {
        What::Run(run) => one(&run, false),
        What::Replay(run) => one(&run, true),
        What::Many(many) => self::many(&many),
        What::Planted(planted) => self::planted(&planted),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("sim: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn say(line: &str) {
    // Nobody listens any more: nothing to be done about it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn plant_named(name: Option<&str>) -> anyhow::Result<Option<Plant>> {
    let Some(name) = name else { return Ok(None) };
    Plant::named(name).map(Some).ok_or_else(|| anyhow::anyhow!("no planted fault is called {name}"))
}

fn simulate(seed: u64, minutes: u64, plant: Option<Plant>, verbose: bool) -> Report {
    let plan = plant.map_or_else(|| Plan::of(seed), |plant| plant.plan(seed));
    let run = || {
        let world = World::new(seed, plan, plant);
        let world = if verbose { world.verbose() } else { world };
        world.run(minutes * 60 * 1_000_000)
    };
    if verbose {
        // Where it panics is to be seen.
        return run();
    }
    env::catch_panic(run).unwrap_or_else(|what| Report {
        counts: Counts { runs: 1, ..Counts::default() },
        trace: 0,
        found: Some(Found { at: 0, rule: "Panic".to_owned(), what }),
    })
}

fn one(run: &Run, verbose: bool) -> anyhow::Result<bool> {
    let plant = plant_named(run.plant.as_deref())?;
    let minutes = run.hours.map_or(run.minutes, |hours| hours * 60);
    let clock = SystemClock::default();
    let report = simulate(run.seed, minutes, plant, verbose);
    let took = clock.now().0.as_secs_f64();
    say(&format!("{}\ntrace {:016x}, {took:.1} s", report.counts, report.trace));
    tell_found(run.seed, minutes, plant, &report);
    Ok(report.found.is_none())
}

fn tell_found(seed: u64, minutes: u64, plant: Option<Plant>, report: &Report) {
    if let Some(found) = &report.found {
        let plant = plant.map_or_else(String::new, |plant| format!(" --plant {plant:?}"));
        let at = found.at as f64 / 1e6;
        // What an assertion found that only some builds have is found by the same.
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        say(&format!("FOUND {} at {at:.6}: {}", found.rule, found.what));
        say(&format!("replay: cargo run{profile} -p sim -- replay --seed {seed} --minutes {minutes}{plant}"));
    }
}

/// What many runs have come to.
#[derive(Default)]
struct Total {
    counts: Counts,
    failed: u64,
    last: u64,
}

const MICROSECONDS_PER_HOUR: u64 = 3_600_000_000;

fn many(many: &Many) -> anyhow::Result<bool> {
    let plant = plant_named(many.plant.as_deref())?;
    let clock = SystemClock::default();
    let next = AtomicU64::new(many.from);
    let count = many.count.unwrap_or(if many.hours.is_some() { u64::MAX } else { 100 });
    let end = many.from.saturating_add(count);
    let wanted = many.hours.map_or(0, |hours| hours * MICROSECONDS_PER_HOUR);
    let time_limit = many.seconds.map_or(Duration::MAX, Duration::from_secs);
    let total = Mutex::new(Total::default());
    let is_enough = || many.hours.is_some() && total.lock().expect(UNPOISONED).counts.microseconds >= wanted;
    std::thread::scope(|scope| {
        for _ in 0..many.threads.max(1) {
            scope.spawn(|| {
                while clock.now().0 < time_limit && !is_enough() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let report = simulate(seed, many.minutes, plant, false);
                    tell_found(seed, many.minutes, plant, &report);
                    let mut total = total.lock().expect(UNPOISONED);
                    total.counts.add(&report.counts);
                    total.failed += u64::from(report.found.is_some());
                    total.last = total.last.max(seed);
                }
            });
        }
    });
    let Total { counts, failed, last } = total.into_inner().expect(UNPOISONED);
    let took = clock.now().0.as_secs_f64();
    let hours = counts.microseconds as f64 / MICROSECONDS_PER_HOUR as f64;
    let rate = hours * 60.0 / took / many.threads.max(1) as f64;
    say(&format!("{counts}\n{took:.1} s on {} threads, {rate:.2} cluster-hours a minute and thread", many.threads));
    let asked = many.hours.map_or_else(String::new, |hours| format!(" of {hours}"));
    say(&format!("seeds {} to {last}: {hours:.2}{asked} cluster-hours with faults, {failed} violations", many.from));
    if counts.microseconds < wanted {
        say("fewer hours than asked for");
    }
    Ok(failed == 0 && counts.runs > 0 && counts.microseconds >= wanted)
}

const UNPOISONED: &str = "no thread panics with it";

fn planted(planted: &Planted) -> anyhow::Result<bool> {
    let only = plant_named(planted.plant.as_deref())?;
    let mut all_found = true;
    for plant in Plant::ALL.into_iter().filter(|plant| only.is_none_or(|only| only == *plant)) {
        let clock = SystemClock::default();
        let mut seed = 0;
        let found = loop {
            let report = simulate(seed, planted.minutes, Some(plant), false);
            if report.found.is_some() || clock.now().0 > Duration::from_secs(planted.budget) {
                break report.found;
            }
            seed += 1;
        };
        let took = clock.now().0.as_secs_f64();
        match found {
            Some(found) => {
                let what: String = found.what.lines().next().unwrap_or_default().chars().take(100).collect();
                say(&format!("{plant:?}: found in {took:.1} s by seed {seed}: {}: {what}", found.rule));
            }
            None => {
                all_found = false;
                say(&format!("{plant:?}: NOT FOUND in {took:.1} s, {seed} seeds"));
            }
        }
    }
    Ok(all_found)
}
