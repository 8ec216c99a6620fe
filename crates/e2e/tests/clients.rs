//! Real client libraries, each with a program that does what its users do: `ci/get-clients` builds them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Member, Target, on_both_targets};
use tokio::process::Command;

/// Longer than the slowest of them takes, by far.
const LIMIT: Duration = Duration::from_secs(50);

fn workspace(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two levels up is the workspace");
    root.join(path)
}

async fn runs(program: &str, arguments: &[String]) -> Result<()> {
    let program = workspace(program);
    ensure!(program.is_file(), "{} is missing: run ci/get-clients", program.display());
    // The Python client's generated code predates today's protobuf runtime; this is its documented way out.
    let mut command = Command::new(&program);
    command.args(arguments).env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python").kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.context("it hangs")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", program.display());
    Ok(())
}

async fn python_etcd3(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let script = workspace("clients/python/check.py").display().to_string();
    let (host, port) = (member.address().ip().to_string(), member.address().port().to_string());
    runs(".cache/python/bin/python", &[script, host, port]).await
}

async fn rust_etcd_client(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    runs(".cache/rust/debug/check-etcd-client", &[member.address().to_string()]).await
}

on_both_targets!(python_etcd3, rust_etcd_client);
