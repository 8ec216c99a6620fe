//! Both servers, in turns, on one machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::report::{Machine, Report};
use crate::scenario::{Figure, Size, Turn};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// etcd's program; `ci/get-etcd` fetches it.
    #[arg(long, default_value = ".cache/etcd/usr/bin/etcd")]
    etcd: PathBuf,
    /// Quorate's program; `cargo build --profile dist` makes it.
    #[arg(long, default_value = "target/dist/quorate")]
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
    /// Only these parts: small, streams, ranges, restart.
    #[arg(long, value_delimiter = ',', default_value = "small,streams,ranges,restart")]
    parts: Vec<String>,
    /// Where the servers keep their data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
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
    ensure!(options.quorate.exists(), "{} is missing: run cargo build --profile dist", options.quorate.display());
    let size = Size { seconds: options.seconds, keys: options.keys };
    let (mut etcd, mut quorate) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        for part in &options.parts {
            // Whoever went first goes second next time.
            let mut order = [("etcd", options.etcd.as_path()), ("quorate", options.quorate.as_path())];
            order.rotate_left(round % 2);
            for (name, program) in order {
                let figures = run_part(part, program, &options.work, name, size).await;
                let figures = figures.with_context(|| format!("{part} on {name}"))?;
                if name == "etcd" { etcd.extend(figures) } else { quorate.extend(figures) }
            }
        }
    }
    let report = Report::new(&etcd, &quorate);
    println!("{report}");
    let heading = Machine::look(&options.etcd, &options.quorate, size, options.rounds)?;
    write(&options.report, &format!("{heading}\n{report}"))
}

async fn run_part(part: &str, program: &Path, root: &Path, name: &str, size: Size) -> anyhow::Result<Vec<Figure>> {
    let mut turn = Turn { program, root, name, size, figures: Vec::new() };
    match part {
        "small" => turn.small().await?,
        "streams" => turn.streams().await?,
        "ranges" => turn.ranges().await?,
        "restart" => turn.restart().await?,
        _ => anyhow::bail!("no part is called {part:?}; there are small, streams, ranges, restart"),
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
