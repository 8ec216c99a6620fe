//! What systemd (`Type=notify`) is told of the member: that it serves, where it stands, that it goes on, and that it
//! stops. Without a `NOTIFY_SOCKET`, nothing.
//!
//! Source: `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use server::{Door, Identity, Pulse};
use tokio::time::{Interval, MissedTickBehavior, interval};
use types::{MemberId, Term};

pub(crate) struct ServiceManager {
    /// Where to, if there is one.
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// After so much silence the process is killed.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that started this process, as the variables tell it.
    pub(crate) fn from_environment() -> ServiceManager {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| open(&name));
        let watchdog = watchdog(std::env::var("WATCHDOG_USEC").ok(), std::env::var("WATCHDOG_PID").ok());
        ServiceManager { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    pub(crate) fn waiting(&self) {
        self.tell("STATUS=waiting for the cluster to have a leader");
    }

    /// Tells that requests are served, and from then on, until dropped, how the member fares.
    pub(crate) async fn keep_told(&self, door: &Door, identity: &Identity) {
        if self.socket.is_none() {
            return;
        }
        let own = identity.member_id;
        let mut statuses = door.status_changes();
        let status = *statuses.borrow_and_update();
        self.tell(&format!("READY=1\n{}", sentence(own, status.leader, status.term)));
        let mut feeding = self.watchdog.map(feeding_times);
        let mut watch = self.watchdog.map(|patience| Watch { patience, last: door.pulse(), is_told: false });
        loop {
            tokio::select! {
                changed = statuses.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let status = *statuses.borrow_and_update();
                    self.tell(&sentence(own, status.leader, status.term));
                }
                () = next(&mut feeding) => {
                    if watch.as_mut().is_some_and(|watch| watch.all_is_well(door.pulse())) {
                        self.tell("WATCHDOG=1");
                    }
                }
            }
        }
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    fn tell(&self, what: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), address) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// Whether the member goes on, from look to look.
struct Watch {
    patience: Duration,
    /// When all was well last.
    last: Pulse,
    /// That it is not is in the log.
    is_told: bool,
}

impl Watch {
    fn all_is_well(&mut self, now: Pulse) -> bool {
        let standstill = now.standstill_since(&self.last, self.patience);
        let was_told = std::mem::replace(&mut self.is_told, standstill.is_some());
        match standstill {
            None => {
                if was_told {
                    tracing::info!("the member goes on, and the watchdog is told so again");
                }
                self.last = now;
            }
            Some(why) if !was_told => {
                tracing::error!(%why, last = ?self.last, ?now, "the watchdog is not told any more that all is well");
            }
            Some(_) => {}
        }
        standstill.is_none()
    }
}

/// A path, or a name without one behind `@`.
fn open(name: &OsStr) -> Option<(UnixDatagram, SocketAddr)> {
    let opened = || {
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            _ => SocketAddr::from_pathname(OsString::from(name))?,
        };
        Ok::<_, std::io::Error>((UnixDatagram::unbound()?, address))
    };
    opened().inspect_err(|error| tracing::warn!(%error, ?name, "NOTIFY_SOCKET cannot be used")).ok()
}

/// The watchdog's patience, if it is this process that it watches.
fn watchdog(micros: Option<String>, pid: Option<String>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let micros: u64 = micros?.parse().ok()?;
    (is_ours && micros > 0).then(|| Duration::from_micros(micros))
}

/// Twice within the watchdog's patience, as systemd advises.
fn feeding_times(patience: Duration) -> Interval {
    let mut times = interval((patience / 2).max(Duration::from_millis(1)));
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    times.reset();
    times
}

async fn next(times: &mut Option<Interval>) {
    match times {
        Some(times) => drop(times.tick().await),
        None => std::future::pending().await,
    }
}

fn sentence(own: MemberId, leader: MemberId, term: Term) -> String {
    match leader {
        MemberId(0) => format!("STATUS=no leader, term {}", term.0),
        leader if leader == own => format!("STATUS=leads, term {}", term.0),
        leader => format!("STATUS=follows {leader}, term {}", term.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_is_watched_feeds_the_watchdog() {
        let text = |text: &str| Some(text.to_owned());
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(text("1000000"), None), second);
        assert_eq!(watchdog(text("1000000"), text(&std::process::id().to_string())), second);
        assert_eq!(watchdog(text("1000000"), text("1")), None);
        assert_eq!([None, text("0"), text("soon")].map(|micros| watchdog(micros, None)), [None; 3]);
    }
}
