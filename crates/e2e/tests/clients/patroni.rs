//! Patroni, which decides by etcd's keys and leases which of its PostgreSQL servers may write, on a cluster of three.
#![allow(clippy::disallowed_methods, reason = "real processes need real files")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::{Cluster, Process, Target, cached, holds_within, http, on_both_targets, unused_host, within};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// How long Patroni lets the primary be silent, by its configuration: the time to live of its lease.
const TTL: Duration = Duration::from_secs(20);

/// How long anything may take that Patroni and PostgreSQL do besides waiting for a lease.
const PATIENCE: Duration = Duration::from_secs(40);

/// Between two questions to Patroni: each costs it some of its own to PostgreSQL.
const PAUSE: Duration = Duration::from_millis(200);

/// One PostgreSQL server and the Patroni that keeps it.
struct Postgres {
    name: &'static str,
    host: Ipv4Addr,
    dir: PathBuf,
    programs: PathBuf,
    patroni: Option<Process>,
}

impl Postgres {
    fn new(name: &'static str, members: &str, dir: &Path) -> Result<Postgres> {
        let (host, dir, programs) = (unused_host(), dir.join(name), programs()?);
        fs::create_dir(&dir)?;
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/patroni.yml");
        let configuration = fs::read_to_string(template)?
            .replace("NAME", name)
            .replace("HOST", &host.to_string())
            .replace("MEMBERS", members)
            .replace("PROGRAMS", &programs.display().to_string())
            .replace("DIR", &dir.display().to_string());
        fs::write(dir.join("patroni.yml"), configuration)?;
        Ok(Postgres { name, host, dir, programs, patroni: None })
    }

    fn start(&mut self) -> Result<()> {
        let patroni = cached("python/patroni/bin/patroni", "ci/get-python-clients")?;
        let mut words = vec![patroni.display().to_string(), self.dir.join("patroni.yml").display().to_string()];
        // PostgreSQL does not run as root. In a name space of its own it sees another user, who may still all that this one
        // may do with files.
        if geteuid().is_root() {
            let front = ["unshare", "--user", "--map-user=postgres", "--map-group=postgres"];
            words.splice(0..0, front.map(str::to_owned));
        }
        let program = PathBuf::from(words.remove(0));
        let shown = format!("patroni {}", self.name);
        self.patroni = Some(Process::start(&shown, &program, &words, &self.dir.join("output"))?);
        Ok(())
    }

    /// The first process of PostgreSQL, by its own file, if that is not of an earlier one that was killed.
    fn postmaster(&self) -> Option<Pid> {
        let data = self.dir.join("data");
        let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid: i32 = file.lines().next()?.parse().ok()?;
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (works_in == data).then(|| Pid::from_raw(pid)).flatten()
    }

    /// SIGKILL to both, Patroni first, so that it cannot start the other again: as if the machine had died.
    fn kill(&mut self) -> Result<()> {
        self.patroni.take().context("it does not run")?.kill()?;
        kill_process(self.postmaster().context("PostgreSQL does not run")?, Signal::KILL)?;
        Ok(())
    }

    /// SIGTERM: Patroni stops PostgreSQL and gives its keys up.
    async fn stop(&mut self) -> Result<()> {
        let mut patroni = self.patroni.take().context("it does not run")?;
        patroni.signal(Signal::TERM)?;
        let status = patroni.wait(PATIENCE).await?;
        ensure!(status.success() && self.postmaster().is_none(), "{} ended with {status}", self.name);
        Ok(())
    }

    /// What `statement` returns, or the error.
    async fn sql(&self, statement: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username=postgres"]);
        command.args(["--dbname=postgres", "--host", &self.host.to_string(), "--command", statement]);
        command.env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null()).kill_on_drop(true);
        let output = within(PATIENCE, command.output()).await??;
        ensure!(output.status.success(), "{}: {statement}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Patroni's picture of all servers, if it answers.
    async fn picture(&self) -> Result<Option<Vec<Seen>>> {
        sleep(PAUSE).await;
        let Ok(Ok(answer)) = within(PATIENCE, http::get((self.host, 8008).into(), "/cluster")).await else {
            return Ok(None);
        };
        let picture: Value = serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?;
        let members = picture["members"].as_array().context("no members")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let seen = members.iter().map(|member| Seen {
            name: text(&member["name"]),
            role: text(&member["role"]),
            state: text(&member["state"]),
            timeline: member["timeline"].as_i64().unwrap_or_default(),
        });
        Ok(Some(seen.collect()))
    }

    /// Waits until this server leads on `timeline` and `other`, if any, follows it.
    async fn leads(&self, timeline: i64, other: Option<&Postgres>) -> Result<()> {
        let mut expected = vec![Seen::new(self.name, "leader", "running", timeline)];
        expected.extend(other.map(|other| Seen::new(other.name, "replica", "streaming", timeline)));
        expected.sort();
        let mut last = None;
        let limit = TTL + PATIENCE;
        holds_within(limit, async || {
            last = self.picture().await?.map(|mut seen| {
                seen.sort();
                seen
            });
            Ok(last.as_ref() == Some(&expected))
        })
        .await
        .with_context(|| format!("{expected:?} was expected and {last:?} is"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Without its Patroni nobody starts it again. SIGQUIT is the quick end that frees shared memory.
        self.patroni = None;
        if let Some(postmaster) = self.postmaster() {
            kill_process(postmaster, Signal::QUIT).ok();
        }
    }
}

/// One server, as Patroni tells it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    name: String,
    role: String,
    state: String,
    timeline: i64,
}

impl Seen {
    fn new(name: &str, role: &str, state: &str, timeline: i64) -> Seen {
        Seen { name: name.to_owned(), role: role.to_owned(), state: state.to_owned(), timeline }
    }
}

/// Where Debian has PostgreSQL's programs.
fn programs() -> Result<PathBuf> {
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        for version in versions {
            let programs = version?.path().join("bin");
            if programs.join("postgres").is_file() {
                return Ok(programs);
            }
        }
    }
    bail!("PostgreSQL is missing: run `./dev setup`")
}

/// The primary's machine dies: the standby takes over when the lease has lapsed, with all data, and the old primary comes
/// back as its standby. Then the cluster's leader dies, and nothing happens.
async fn patroni_fails_over(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let addresses: Vec<_> = cluster.seats().iter().map(|seat| seat.address().to_string()).collect();
    let members = addresses.join(",");
    let dir = TempDir::new()?;
    let (mut first, mut second) =
        (Postgres::new("first", &members, dir.path())?, Postgres::new("second", &members, dir.path())?);
    first.start()?;
    first.leads(1, None).await?;
    second.start()?;
    first.leads(1, Some(&second)).await?;

    first.sql("CREATE TABLE written (number int)").await?;
    first.sql("INSERT INTO written SELECT generate_series(1, 1000)").await?;
    let count = "SELECT count(*) FROM written";
    holds_within(PATIENCE, async || Ok(second.sql(count).await.is_ok_and(|count| count == "1000"))).await?;
    let refused = second.sql("INSERT INTO written VALUES (0)").await.expect_err("a standby does not write");
    ensure!(refused.to_string().contains("read-only"), "{refused}");

    first.kill()?;
    let killed = Instant::now();
    second.leads(2, None).await?;
    let absence = killed.elapsed();
    ensure!(absence > TTL / 2, "it took over {absence:?} after the kill, with the other's lease alive");
    ensure!(second.sql(count).await? == "1000", "data was lost");
    first.start()?;
    second.leads(2, Some(&first)).await?;

    let leader = cluster.leader().await?;
    cluster.seat(leader).kill()?;
    let (killed, mut writes) = (Instant::now(), 0);
    while killed.elapsed() < TTL + TTL / 10 {
        second.sql("INSERT INTO written VALUES (0)").await?;
        writes += 1;
        sleep(PAUSE).await;
    }
    second.leads(2, Some(&first)).await?;
    let written = (1000 + writes).to_string();
    holds_within(PATIENCE, async || Ok(first.sql(count).await? == written)).await?;

    cluster.restart(leader).await?;
    cluster.settled().await?;
    first.stop().await?;
    second.stop().await?;
    cluster.equal().await?;
    Ok(())
}

on_both_targets!(clusters: patroni_fails_over);
