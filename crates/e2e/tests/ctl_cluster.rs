//! The tools at work on a cluster whose members come and go: `etcdctl` and `quoratectl` with all endpoints, on both servers.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::request::range;
use e2e::{CALL_LIMIT, Cluster, Member, Target, Tool, Wiring, holds_within, within};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long the tools may take to notice that a member is gone and to find another.
const FAILOVER_LIMIT: Duration = Duration::from_secs(20);

fn command(tool: Tool, endpoints: &str, words: &[&str]) -> Result<Command> {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(tool.program()?).arg("--endpoints").arg(endpoints).args(words);
    command.env_clear().env("PATH", "/usr/bin:/bin").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

async fn output(tool: Tool, endpoints: &str, words: &[&str]) -> Result<Output> {
    Ok(within(FAILOVER_LIMIT, command(tool, endpoints, words)?.output()).await??)
}

/// What a command that must succeed prints.
async fn printed(tool: Tool, endpoints: &str, words: &[&str]) -> Result<String> {
    let output = output(tool, endpoints, words).await?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn all_endpoints(cluster: &Cluster) -> String {
    let addresses: Vec<String> = cluster.seats().iter().map(|seat| seat.address().to_string()).collect();
    addresses.join(",")
}

/// A command that goes on.
struct Ongoing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Ongoing {
    fn start(tool: Tool, endpoints: &str, words: &[&str]) -> Result<Ongoing> {
        let mut child = command(tool, endpoints, words)?.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("it is a pipe")?).lines();
        Ok(Ongoing { child, lines })
    }

    async fn line(&mut self) -> Result<String> {
        if let Some(line) = within(FAILOVER_LIMIT, self.lines.next_line()).await?? {
            return Ok(line);
        }
        let mut errors = String::new();
        self.child.stderr.take().context("it is a pipe")?.read_to_string(&mut errors).await?;
        bail!("the command ended: {errors}")
    }

    /// Interrupts it; returns what else it printed and the exit code.
    async fn interrupted(mut self) -> Result<(String, Option<i32>)> {
        kill_process(Pid::from_raw(self.child.id().context("it runs")?.cast_signed()).unwrap(), Signal::INT)?;
        let mut rest = String::new();
        while let Some(line) = within(FAILOVER_LIMIT, self.lines.next_line()).await?? {
            rest.push_str(&line);
        }
        Ok((rest, within(CALL_LIMIT, self.child.wait()).await??.code()))
    }
}

async fn a_watch_goes_on_where_it_was(tool: Tool, target: Target) -> Result<()> {
    // A watch that comes while there is no leader is refused: by etcd once it knows, which takes an election timeout, by
    // Quorate once that has lasted for one. So they are those of real clusters: a busy machine takes longer than 100 ms.
    let flags = [("heartbeat-interval", "100"), ("election-timeout", "1000")];
    let mut cluster = Cluster::start_with(target, 3, Wiring::Direct, &flags).await?;
    let endpoints = all_endpoints(&cluster);
    let mut watch = Ongoing::start(tool, &endpoints, &["watch", "--prefix", "k", "--rev", "1"])?;
    for seat in 0..3 {
        for moment in ["before", "while"] {
            let key = format!("k-{seat}-{moment}");
            ensure!(printed(tool, &endpoints, &["put", &key, moment]).await? == "OK\n");
            ensure!([watch.line().await?, watch.line().await?, watch.line().await?] == ["PUT", &key, moment]);
            if moment == "before" {
                cluster.seat(seat).kill()?;
                cluster.leader().await?;
            }
        }
        cluster.restart(seat).await?;
        cluster.settled().await?;
    }
    let (rest, _) = watch.interrupted().await?;
    ensure!(rest.is_empty(), "more than was written: {rest}");
    Ok(())
}

async fn a_lock_is_held_while_members_are_lost(tool: Tool, target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let endpoints = all_endpoints(&cluster);
    let mut lock = Ongoing::start(tool, &endpoints, &["lock", "--ttl", "10", "l"])?;
    let key = lock.line().await?;
    ensure!(key.starts_with("l/"), "{key}");
    for seat in 0..3 {
        cluster.seat(seat).kill()?;
        cluster.leader().await?;
        let other = (seat + 1) % 3;
        let held = within(CALL_LIMIT, cluster.client(other).await?.range(range("l/", "l0"))).await??.kvs;
        ensure!(held.len() == 1 && held[0].key == key, "{held:?}");
        cluster.restart(seat).await?;
        cluster.settled().await?;
    }
    let (_, code) = lock.interrupted().await?;
    ensure!(code == Some(0), "{code:?}");
    ensure!(cluster.client(0).await?.range(range("l/", "l0")).await?.kvs.is_empty());
    Ok(())
}

/// Two want a lock: the second has it when the first lets go, and a third that gives up leaves nothing behind.
async fn a_lock_passes_on(tool: Tool, target: Target) -> Result<()> {
    let cluster = Cluster::start(target, 3).await?;
    let endpoints = all_endpoints(&cluster);
    let mut first = Ongoing::start(tool, &endpoints, &["lock", "l"])?;
    first.line().await?;
    let mut second = Ongoing::start(tool, &endpoints, &["lock", "l"])?;
    let client = cluster.client(0).await?;
    let wanting = async |count: usize| {
        holds_within(CALL_LIMIT, async || Ok(client.range(range("l/", "l0")).await?.kvs.len() == count)).await
    };
    wanting(2).await?;
    let third = Ongoing::start(tool, &endpoints, &["lock", "l"])?;
    wanting(3).await?;
    let (printed, code) = third.interrupted().await?;
    ensure!(printed.is_empty() && code == Some(1), "{printed} {code:?}");
    wanting(2).await?;
    first.interrupted().await?;
    ensure!(second.line().await?.starts_with("l/"));
    second.interrupted().await?;
    wanting(0).await
}

async fn a_leader_is_seen_over_lost_members(tool: Tool, target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let endpoints = all_endpoints(&cluster);
    let mut observer = Ongoing::start(tool, &endpoints, &["elect", "-l", "e"])?;
    let mut one = Ongoing::start(tool, &endpoints, &["elect", "e", "one"])?;
    ensure!(one.line().await?.starts_with("e/") && one.line().await? == "one");
    ensure!(observer.line().await?.starts_with("e/") && observer.line().await? == "one");
    let mut two = Ongoing::start(tool, &endpoints, &["elect", "e", "two"])?;
    let client = cluster.client(0).await?;
    holds_within(CALL_LIMIT, async || Ok(client.range(range("e/", "e0")).await?.kvs.len() == 2)).await?;
    for seat in 0..3 {
        cluster.seat(seat).kill()?;
        cluster.leader().await?;
        cluster.restart(seat).await?;
        cluster.settled().await?;
    }
    let (_, code) = one.interrupted().await?;
    ensure!(code == Some(0), "{code:?}");
    ensure!(two.line().await?.starts_with("e/") && two.line().await? == "two");
    ensure!(observer.line().await?.starts_with("e/") && observer.line().await? == "two");
    two.interrupted().await?;
    let (rest, code) = observer.interrupted().await?;
    ensure!(rest.is_empty() && code == Some(0), "{rest} {code:?}");
    Ok(())
}

/// A member that was stopped takes connections and says nothing on them.
async fn a_silent_member_keeps_nobody(tool: Tool, target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let endpoints = all_endpoints(&cluster);
    printed(tool, &endpoints, &["put", "k", "v"]).await?;
    let follower = cluster.follower().await?;
    cluster.seat(follower).freeze()?;
    for _ in 0..3 {
        ensure!(printed(tool, &endpoints, &["get", "k", "--print-value-only"]).await? == "v\n");
    }
    let frozen = cluster.seats()[follower].address().to_string();
    let health = output(tool, &endpoints, &["endpoint", "health"]).await?;
    let errors = String::from_utf8_lossy(&health.stderr).into_owned();
    ensure!(health.status.code() == Some(1), "{health:?}");
    ensure!(errors.contains(&format!("{frozen} is unhealthy: failed to commit proposal: context deadline exceeded")));
    ensure!(String::from_utf8_lossy(&health.stdout).matches(" is healthy: ").count() == 2, "{health:?}");
    cluster.seat(follower).thaw()?;
    ensure!(printed(tool, &frozen, &["endpoint", "health", "--cluster"]).await?.matches(" is healthy").count() == 3);
    let leader = cluster.leader().await?;
    let (from, to) = (cluster.id(leader).await?, cluster.id(follower).await?);
    let moved = printed(tool, &endpoints, &["move-leader", &format!("{to:x}")]).await?;
    ensure!(moved == format!("Leadership transferred from {from:x} to {to:x}\n"), "{moved}");
    let asked = cluster.seats()[leader].address().to_string();
    let refused = output(tool, &asked, &["move-leader", &format!("{from:x}")]).await?;
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(errors.contains(&format!("Error: no leader endpoint given at [{asked}]")), "{errors}");
    ensure!(refused.status.code() == Some(128), "{refused:?}");
    Ok(())
}

/// Whoever waits for a cluster that is not there can be interrupted.
async fn an_interrupt_ends_what_waits(tool: Tool, target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let endpoint = member.address().to_string();
    member.kill()?;
    for words in [&["lock", "l"][..], &["elect", "e", "one"], &["watch", "k"], &["lease", "keep-alive", "1"]] {
        let waiting = Ongoing::start(tool, &endpoint, words)?;
        // So that it waits for the cluster, and not yet for its own start.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (printed, code) = waiting.interrupted().await?;
        ensure!(printed.is_empty() && code.is_none(), "{words:?}: {printed} {code:?}");
    }
    Ok(())
}

async fn a_socket_is_an_endpoint(tool: Tool, target: Target) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = format!("unix://{}/etcd.sock:1", dir.path().display());
    let mut member = Member::start(target).await?;
    let urls = format!("http://{},{socket}", member.address());
    member.restart_with(&[("listen-client-urls", &urls)]).await?;
    ensure!(printed(tool, &socket, &["put", "k", "v"]).await? == "OK\n");
    ensure!(printed(tool, &socket, &["get", "k"]).await? == "k\nv\n");
    let health = printed(tool, &socket, &["endpoint", "health"]).await?;
    ensure!(health.starts_with(&format!("{socket} is healthy")), "{health}");
    Ok(())
}

/// A test of each body for each tool and server.
macro_rules! four_ways {
    ($($body:ident),* $(,)?) => {
        $(mod $body {
            #[test]
            fn of_etcdctl_with_etcd() {
                e2e::run_within(Some(e2e::CLUSTER_LIMIT), e2e::Target::Etcd, |target| super::$body(e2e::Tool::Etcdctl, target));
            }

            #[test]
            fn of_etcdctl_with_quorate() {
                e2e::run_within(Some(e2e::CLUSTER_LIMIT), e2e::Target::Quorate, |target| super::$body(e2e::Tool::Etcdctl, target));
            }

            #[test]
            fn of_quoratectl_with_etcd() {
                e2e::run_within(Some(e2e::CLUSTER_LIMIT), e2e::Target::Etcd, |target| super::$body(e2e::Tool::Quoratectl, target));
            }

            #[test]
            fn of_quoratectl_with_quorate() {
                e2e::run_within(Some(e2e::CLUSTER_LIMIT), e2e::Target::Quorate, |target| super::$body(e2e::Tool::Quoratectl, target));
            }
        })*
    };
}

four_ways!(
    a_watch_goes_on_where_it_was,
    a_lock_is_held_while_members_are_lost,
    a_lock_passes_on,
    a_leader_is_seen_over_lost_members,
    a_silent_member_keeps_nobody,
    an_interrupt_ends_what_waits,
    a_socket_is_an_endpoint,
);
