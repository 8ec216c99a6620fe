//! What Prometheus' own tool says of metrics, rules and dashboards.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::{get, put};
use e2e::{Cluster, Exposition, Member, Target, cached, found_within, run_unlimited};

fn promtool(arguments: &[&str], dir: &Path, input: &str) -> Result<Output> {
    let program = cached("prometheus/usr/bin/promtool", "ci/get-promtool")?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn deploy(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(folder)
}

/// What it finds wrong with the style of metrics.
fn complaints(scrape: &Exposition) -> Result<BTreeSet<String>> {
    let output = promtool(&["check", "metrics"], Path::new("/"), &scrape.text)?;
    // 3: it could be read, and style is not what it should be.
    ensure!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8(said)?.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[test]
fn metrics_are_as_good_as_etcds() {
    run_unlimited(async {
        let mut said = Vec::new();
        for target in Target::BOTH {
            let member = Member::start_with(target, &[("metrics", "extensive")]).await?;
            member.put(put("key", "value")).await?;
            member.range(get("key")).await?;
            said.push(complaints(&Exposition::scrape(member.address()).await?)?);
        }
        ensure!(said[1].is_subset(&said[0]), "{:?}", said[1].difference(&said[0]).collect::<Vec<_>>());
        Ok(())
    });
}

#[test]
fn alerts_can_be_read_and_do_what_they_should() -> Result<()> {
    let dir = deploy("prometheus");
    for arguments in [
        &["check", "config", "--syntax-only", "prometheus.yaml"][..],
        &["check", "rules", "alerts.yaml"],
        &["test", "rules", "alerts_test.yaml"],
    ] {
        let output = promtool(arguments, &dir, "")?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
    }
    let rules = fs::read_to_string(dir.join("alerts.yaml"))?;
    assert_eq!(rules.matches("- alert: etcd").count(), 15);
    Ok(())
}

/// The expressions of the dashboard, with its variables replaced.
fn dashboard() -> Result<Vec<String>> {
    let text = fs::read_to_string(deploy("grafana").join("quorate.json"))?;
    let dashboard: serde_json::Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    Ok(expressions.map(|text| text.replace("$__rate_interval", "5m").replace("$job", ".*")).collect())
}

#[test]
fn a_dashboards_expressions_can_be_read() -> Result<()> {
    let expressions = dashboard()?;
    ensure!(expressions.len() > 30, "{expressions:?}");
    let rules: Vec<_> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| serde_json::json!({"record": format!("panel:{number}"), "expr": expression}))
        .collect();
    let dir = tempfile::tempdir()?;
    let file = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    fs::write(dir.path().join("panels.yaml"), file.to_string())?;
    let output = promtool(&["check", "rules", "panels.yaml"], dir.path(), "")?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// The names of metrics in an expression.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| ["etcd_", "grpc_server_", "process_"].iter().any(|start| word.starts_with(start)))
}

#[test]
fn whatever_alerts_and_dashboard_ask_for_is_told() {
    run_unlimited(async {
        let cluster = Cluster::start_with(Target::Quorate, 3, e2e::Wiring::Direct, &[("metrics", "extensive")]).await?;
        let leader = cluster.leader().await?;
        cluster.client(leader).await?.put(put("key", "value")).await?;
        let mut asked = dashboard()?;
        asked.push(fs::read_to_string(deploy("prometheus").join("alerts.yaml"))?);
        // Those come with the first snapshot.
        let is_late = |name: &str| name.starts_with("etcd_network_snapshot_");
        let names: BTreeSet<&str> =
            asked.iter().flat_map(|text| metrics_in(text)).filter(|name| !is_late(name)).collect();
        ensure!(names.len() > 30, "{names:?}");
        let address = cluster.seats()[leader].address();
        found_within(Duration::from_secs(20), async || {
            let scrape = Exposition::scrape(address).await?;
            let is_told = |name: &&&str| {
                let family = scrape.families.get(**name).or_else(|| {
                    let name = name.strip_suffix("_bucket")?;
                    scrape.families.get(name).filter(|family| family.kind == "histogram")
                });
                family.is_some_and(|family| !family.samples.is_empty())
            };
            let missing: Vec<_> = names.iter().filter(|name| !is_told(name)).collect();
            ensure!(missing.len() < 10, "{missing:?}");
            Ok(missing.is_empty().then_some(()))
        })
        .await
    });
}
