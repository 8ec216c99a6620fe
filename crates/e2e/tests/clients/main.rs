//! Client libraries that people use, against both servers: small programs in `clients/`, which check for themselves.

mod patroni;

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
async fn succeeds(program: &Path, environment: &[(&str, &Path)], arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
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

/// A script in `clients/`.
fn script(name: &str) -> String {
    format!("{}/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Host and port, as most clients want them.
fn host_and_port(member: &Member) -> (String, String) {
    (member.address().ip().to_string(), member.address().port().to_string())
}

/// Runs `clients/python/SCRIPT` in an environment that has the package.
async fn python(target: Target, environment: &str, name: &str) -> Result<()> {
    let python = cached(&format!("python/{environment}/bin/python"), "ci/get-python-clients")?;
    let member = Member::start(target).await?;
    let (host, port) = host_and_port(&member);
    succeeds(&python, &[], &[&script(&format!("python/{name}")), &host, &port]).await
}

async fn python_etcd3(target: Target) -> Result<()> {
    python(target, "etcd3", "check_etcd3.py").await
}

async fn python_aetcd(target: Target) -> Result<()> {
    python(target, "aetcd", "check_aetcd.py").await
}

async fn python_etcd3gw(target: Target) -> Result<()> {
    python(target, "openstack", "check_etcd3gw.py").await
}

async fn openstack_tooz(target: Target) -> Result<()> {
    python(target, "openstack", "check_tooz.py").await
}

async fn node_etcd3(target: Target) -> Result<()> {
    let packages = cached("node-client/node_modules", "ci/get-node-client")?;
    let member = Member::start(target).await?;
    let (host, port) = host_and_port(&member);
    succeeds(Path::new("node"), &[("NODE_PATH", &packages)], &[&script("node/check.js"), &host, &port]).await
}

async fn go_clientv3(target: Target) -> Result<()> {
    let program = cached("go-client/check", "ci/get-go-client")?;
    let member = Member::start(target).await?;
    succeeds(&program, &[], &[&member.address().to_string()]).await
}

async fn rust_etcd_client(target: Target) -> Result<()> {
    let program = cached("rust-client/debug/check", "ci/get-rust-client")?;
    let member = Member::start(target).await?;
    succeeds(&program, &[], &[&member.address().to_string()]).await
}

on_both_targets!(python_etcd3, python_aetcd, python_etcd3gw, openstack_tooz, node_etcd3, go_clientv3, rust_etcd_client);
