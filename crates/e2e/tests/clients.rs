//! Client libraries that people use, against both servers: small programs in `clients/`, which check for themselves.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Member, Target, cached, on_both_targets};
use tokio::process::Command;
use tokio::time::timeout;

/// No client takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(50);

/// Runs `program` and expects success.
async fn succeeds(program: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| program.display().to_string())?;
    let output = timeout(LIMIT, child.wait_with_output()).await.context("the client goes on and on")??;
    ensure!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

async fn python_etcd3(target: Target) -> Result<()> {
    let python = cached("python-client/bin/python", "ci/get-python-client")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/check.py");
    let member = Member::start(target).await?;
    let SocketAddr::V4(address) = member.address() else { unreachable!("members listen on 127.0.0.0/8") };
    let script = script.to_str().context("the path is text")?;
    succeeds(&python, &[script, &address.ip().to_string(), &address.port().to_string()]).await
}

async fn rust_etcd_client(target: Target) -> Result<()> {
    let program = cached("rust-client/debug/check", "ci/get-rust-client")?;
    let member = Member::start(target).await?;
    succeeds(&program, &[&member.address().to_string()]).await
}

on_both_targets!(python_etcd3, rust_etcd_client);
