//! What systemd is told, by a socket that the test holds in its place.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::{Ground, Target, run};
use rustix::process::Signal;
use tokio::net::UnixDatagram;
use tokio::time::{Instant, timeout};

/// More than anything takes here, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The watchdog is fed about twice within it.
const WATCHDOG: Duration = Duration::from_millis(500);

fn bind_abstract(name: &str) -> Result<UnixDatagram> {
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.set_nonblocking(true)?;
    Ok(UnixDatagram::from_std(socket)?)
}

async fn next(socket: &UnixDatagram) -> Result<String> {
    let mut told = [0; 1024];
    let length = timeout(PATIENCE, socket.recv(&mut told)).await.context("nothing is told")??;
    Ok(String::from_utf8_lossy(&told[..length]).into_owned())
}

/// Passes over what else is told.
async fn until(socket: &UnixDatagram, wanted: &str) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let told = next(socket).await?;
        if told.lines().any(|line| line == wanted) {
            return Ok(told);
        }
    }
    bail!("{wanted} is never told")
}

async fn tells_the_service_manager(abstract_name: bool) -> Result<()> {
    let ground = Ground::new()?;
    let path = ground.dir().join("notify").display().to_string();
    let (socket, name) = match abstract_name {
        false => (UnixDatagram::bind(&path)?, path),
        true => (bind_abstract(&path)?, format!("@{path}")),
    };
    let variables = [format!("NOTIFY_SOCKET={name}"), format!("WATCHDOG_USEC={}", WATCHDOG.as_micros())];
    let front = ["env", &variables[0], &variables[1]];
    let (mut process, _client) = ground.serve(&front, &[]).await?;
    ensure!(next(&socket).await?.starts_with("STATUS=waiting"), "it is told to be ready before it serves");
    let ready = until(&socket, "READY=1").await?;
    ensure!(ready.lines().any(|line| line.starts_with("STATUS=leads, term ")), "{ready}");
    for _ in 0..3 {
        until(&socket, "WATCHDOG=1").await?;
    }

    process.signal(Signal::STOP)?;
    while timeout(4 * WATCHDOG, socket.recv(&mut [0; 1024])).await.is_ok() {}
    process.signal(Signal::CONT)?;
    until(&socket, "WATCHDOG=1").await?;

    process.signal(Signal::TERM)?;
    until(&socket, "STOPPING=1").await?;
    process.wait(PATIENCE).await?;
    Ok(())
}

#[test]
fn the_service_manager_is_told_of_start_and_stop_and_that_all_is_well_meanwhile() {
    run(Target::Quorate, |_| tells_the_service_manager(false));
}

#[test]
fn a_service_manager_may_listen_on_an_abstract_name() {
    run(Target::Quorate, |_| tells_the_service_manager(true));
}

#[test]
fn a_service_manager_that_is_gone_keeps_nobody_from_serving() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let variable = format!("NOTIFY_SOCKET={}", ground.dir().join("nobody").display());
        let (_process, _client) = ground.serve(&["env", &variable], &[]).await?;
        Ok(())
    });
}
