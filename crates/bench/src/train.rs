//! Load for a program that keeps account of what it executes, and is then built anew by that account.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::compare::run_part;
use crate::scenario::Size;

/// What servers do all day, and a start with data.
const PARTS: [&str; 5] = ["small", "streams", "ranges", "restart", "cluster"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Quorate's program; `ci/guided-flags` makes one that keeps account.
    #[arg(long)]
    quorate: PathBuf,
    /// How long each workload runs.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Keys of the large stores.
    #[arg(long, default_value_t = 50_000)]
    keys: u64,
    /// Where the servers keep their data.
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
}

/// Runs the parts, and ends each server as an operator does.
///
/// # Errors
/// If the program is missing, or a server fails.
pub(crate) async fn train(options: Options) -> anyhow::Result<()> {
    ensure!(options.quorate.exists(), "{} is missing", options.quorate.display());
    let size = Size { seconds: options.seconds, keys: options.keys, failovers: 0 };
    for part in PARTS {
        let paths = (options.quorate.as_path(), options.work.as_path(), None);
        run_part(part, paths, "quorate", size).await.context(part)?;
    }
    Ok(())
}
