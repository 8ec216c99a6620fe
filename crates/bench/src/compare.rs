//! Both servers, in turns, on one machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::cluster::Absence;
use crate::report::{Machine, Page, Report, Section};
use crate::scenario::{Figure, Size, Turn};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// etcd's program; `ci/get-etcd` fetches it.
    #[arg(long, default_value = ".cache/etcd/usr/bin/etcd")]
    etcd: PathBuf,
    /// Quorate's program; `bench/compare` makes it.
    #[arg(long, default_value = "target/bench/program/quorate")]
    quorate: PathBuf,
    /// How long each workload runs.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Keys of the large stores.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How often everything is repeated; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How often a leader is killed, and stopped, each round.
    #[arg(long, default_value_t = 10)]
    failovers: usize,
    /// Only these parts: small, streams, ranges, restart; and of three members: cluster, failover, absence.
    #[arg(long, value_delimiter = ',', default_value = "small,streams,ranges,restart,cluster,failover,absence")]
    parts: Vec<String>,
    /// Where the servers keep their data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// A directory on another disk: the part `absence` is done once more, with the data of the member that is away there.
    #[arg(long)]
    other_disk: Option<PathBuf>,
    /// Where the table is written.
    #[arg(long, default_value_os_t = crate::default_report())]
    report: PathBuf,
}

/// Runs every part for both servers and writes the table.
///
/// # Errors
/// If a program is missing, or a server fails.
pub(crate) async fn compare(options: Options) -> anyhow::Result<()> {
    ensure!(options.etcd.exists(), "{} is missing: run ci/get-etcd", options.etcd.display());
    ensure!(options.quorate.exists(), "{} is missing: bench/compare makes it", options.quorate.display());
    let size = Size { seconds: options.seconds, keys: options.keys, failovers: options.failovers };
    let mut sections: Vec<(Section, Vec<Figure>, Vec<Figure>)> = Vec::new();
    for round in 0..options.rounds {
        for part in &options.parts {
            let section = Section::of(part);
            let at = sections.iter().position(|(known, ..)| *known == section).unwrap_or_else(|| {
                sections.push((section, Vec::new(), Vec::new()));
                sections.len() - 1
            });
            let (_, etcd, quorate) = &mut sections[at];
            // Whoever went first goes second next time.
            let mut order = [("etcd", options.etcd.as_path()), ("quorate", options.quorate.as_path())];
            order.rotate_left(round % 2);
            for (name, program) in order {
                let figures = run_part(part, (program, &options.work, options.other_disk.as_deref()), name, size).await;
                let figures = figures.with_context(|| format!("{part} on {name}"))?;
                if name == "etcd" { etcd.extend(figures) } else { quorate.extend(figures) }
            }
        }
    }
    let machine = Machine::look(&options.etcd, &options.quorate, size, options.rounds)?;
    let mut page = Page::read(&options.report);
    for (section, etcd, quorate) in sections {
        let report = Report::new(&etcd, &quorate);
        println!("{report}");
        page.set(section, format!("{machine}\n{report}"));
    }
    write(&options.report, &page.to_string())
}

/// `paths`: of the program, for its data, and on another disk.
pub(crate) async fn run_part(
    part: &str,
    paths: (&Path, &Path, Option<&Path>),
    name: &str,
    size: Size,
) -> anyhow::Result<Vec<Figure>> {
    let (program, root, other_disk) = paths;
    let mut turn = Turn { program, root, name, size, figures: Vec::new() };
    match part {
        "small" => turn.small().await?,
        "streams" => turn.streams().await?,
        "ranges" => turn.ranges().await?,
        "restart" => turn.restart().await?,
        "cluster" => turn.cluster().await?,
        "failover" => turn.failover().await?,
        "absence" => {
            turn.absence(Absence::Frozen).await?;
            turn.absence(Absence::Killed).await?;
            if let Some(disk) = other_disk {
                turn.absence(Absence::FrozenOn(disk)).await?;
                turn.absence(Absence::KilledOn(disk)).await?;
            }
        }
        _ => anyhow::bail!(
            "no part is called {part:?}; there are small, streams, ranges, restart, cluster, failover, absence"
        ),
    }
    Ok(turn.figures)
}

#[allow(clippy::disallowed_methods, reason = "a report is not part of a database")]
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
