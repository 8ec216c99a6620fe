//! `sim`: runs simulated clusters.

mod many;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use env::{Clock, PanicFate, SystemClock};
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
    std::panic::set_hook(Box::new(move |panic| match env::panic_fate(panic) {
        PanicFate::Caught => {}
        PanicFate::Uncaught => usual(panic),
        PanicFate::Doubled(first) => many::no_return(&first, &env::hook_text(panic)),
    }));
    let done = match Command::parse().what {
        What::Run(run) => one(&run, false),
        What::Replay(run) => one(&run, true),
        What::Many(many) => many::run(many),
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
