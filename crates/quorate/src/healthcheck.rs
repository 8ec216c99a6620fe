//! `quorate healthcheck`: asks the member whether it is well, for the health check of a container, which may hold nothing
//! else that can ask.
//!
//! Without `--ready` a member that waits for its cluster is well. Docker Swarm kills whoever is not, and tells nobody a
//! container's name before it is: members that had to be ready for that would wait for one another for ever.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use config::{Outcome, Settings, Surroundings, Url};

use crate::print;
use crate::program::Program;
use crate::serve::WAITING_THREAD;

pub(crate) const NAME: &str = "healthcheck";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A member without a leader takes as long as a read to say that it is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// To be alive takes no leader.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A member that waits for its cluster answers at once, where it listens for metrics, or not at all. Docker Swarm tells nobody
/// its name before this check is over.
const WAITING_TIMEOUT: Duration = Duration::from_millis(200);
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Where the member listens is taken from `flags` and the variables, as by the member itself. Without flags, from those of
/// the first process, which in a container is the member.
pub(crate) fn run(mut flags: Vec<OsString>, surroundings: &Surroundings<'_>) -> ExitCode {
    let wants_ready = flags.first().is_some_and(|first| first == "--ready");
    if wants_ready {
        flags.remove(0);
    }
    let of_first_process = flags.is_empty();
    if of_first_process {
        flags = flags_of_first_process();
    }
    let settings = match config::load(flags.into_iter(), std::env::vars_os(), surroundings) {
        Outcome::Run(loaded) => loaded.settings,
        Outcome::Print { stderr, .. } => {
            print(std::io::stderr(), &stderr);
            return ExitCode::FAILURE;
        }
    };
    let (url, place) = place(&settings);
    let (path, well, timeout) = match wants_ready {
        true => ("/readyz", "ready", READY_TIMEOUT),
        false => ("/livez", "alive", ALIVE_TIMEOUT),
    };
    let waits = || !wants_ready && of_first_process && first_process_waits();
    let ask = |timeout| ask(&place, host(&settings), path, timeout);
    let answer = match waits() {
        true => match ask(WAITING_TIMEOUT) {
            // It waits no more.
            Err(error) if is_silence(&error) && !waits() => ask(timeout),
            answer => answer,
        },
        false => ask(timeout),
    };
    match answer {
        Ok(answer) if answer.is_ok() => succeeded(&format!("{url} is {well}")),
        Ok(answer) => failed(&format!("{url} is not {well}: {}", answer.0.trim())),
        Err(error) if is_silence(&error) && waits() => {
            succeeded(&format!("{url} waits for the cluster to have a leader"))
        }
        Err(error) if is_silence(&error) => failed(&format!("{url} does not answer")),
        Err(error) => failed(&format!("{url} cannot be asked: {}", config::reason(&error))),
    }
}

fn succeeded(what: &str) -> ExitCode {
    print(std::io::stdout(), &format!("{what}\n"));
    ExitCode::SUCCESS
}

fn failed(why: &str) -> ExitCode {
    print(std::io::stderr(), &format!("Error: {why}\n"));
    ExitCode::FAILURE
}

fn flags_of_first_process() -> Vec<OsString> {
    // Whoever may not read it, or runs it under another name, has the variables and defaults left.
    flags(&config::read_file(Path::new("/proc/1/cmdline")).unwrap_or_default())
}

/// The arguments in `command_line`, which the kernel tells with a zero after each, if it is the server's.
fn flags(command_line: &[u8]) -> Vec<OsString> {
    let command_line = command_line.strip_suffix(b"\0").unwrap_or_default();
    let mut arguments = command_line.split(|byte| *byte == 0).map(OsStr::from_bytes);
    match arguments.next() {
        Some(program) if Program::is_server(program) => arguments.map(OsString::from).collect(),
        _ => Vec::new(),
    }
}

/// Whether the first process, a server, does not serve clients yet.
fn first_process_waits() -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/1/task") else { return false };
    let mut names = threads.flatten().map(|thread| config::read_file(&thread.path().join("comm")));
    names.any(|name| name.is_ok_and(|name| name.trim_ascii() == WAITING_THREAD.as_bytes()))
}

enum Place<'a> {
    Tcp(&'a str, u16),
    Socket(&'a Path),
}

/// Of the listeners that answer such questions, the first.
fn place(settings: &Settings) -> (&Url, Place<'_>) {
    let asked = [&settings.listen_metrics_urls, &settings.listen_client_http_urls, &settings.listen_client_urls];
    let url = asked.into_iter().flatten().next().expect("there is always a listener for clients");
    match url.socket_path() {
        Some(path) => (url, Place::Socket(path)),
        None => (url, Place::Tcp(reachable(url.host().unwrap_or_default()), url.port().unwrap_or_default())),
    }
}

/// What the member may be called.
fn host(settings: &Settings) -> &str {
    match settings.host_whitelist.iter().any(|host| host == "*") {
        true => "localhost",
        false => settings.host_whitelist.first().map_or("localhost", String::as_str),
    }
}

/// A listener on every address is reached on one of this machine's.
fn reachable(host: &str) -> &str {
    match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    }
}

/// Status line, headers and body.
struct Answer(String);

impl Answer {
    fn is_ok(&self) -> bool {
        self.0.split(' ').nth(1) == Some("200")
    }
}

fn ask(place: &Place<'_>, host: &str, path: &str, timeout: Duration) -> std::io::Result<Answer> {
    match place {
        Place::Socket(file) => {
            let socket = UnixStream::connect(file)?;
            socket.set_read_timeout(Some(timeout))?;
            exchange(socket, host, path)
        }
        Place::Tcp(ip, port) => {
            let address = (*ip, *port).to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
            let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
            socket.set_read_timeout(Some(timeout))?;
            exchange(socket, host, path)
        }
    }
}

/// By HTTP/1.0 the server closes once it has answered.
fn exchange(mut socket: impl Read + Write, host: &str, path: &str) -> std::io::Result<Answer> {
    socket.write_all(format!("GET {path}?verbose HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(Answer(String::from_utf8_lossy(&answer).into_owned()))
}

/// Before it has a leader for the first time, a member lets clients wait.
fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flags_of_a_server_count() {
        assert_eq!(flags(b"etcd\0--name=a\0--pre-vote\0"), ["--name=a", "--pre-vote"]);
        assert_eq!(flags(b"/usr/local/bin/quorate\0"), [""; 0]);
        assert_eq!(flags(b"/sbin/init\0splash\0"), [""; 0]);
        assert_eq!(flags(b""), [""; 0]);
    }

    #[test]
    fn every_address_is_reached_at_the_loopback_one() {
        assert_eq!(["0.0.0.0", "::", "10.0.0.1"].map(reachable), ["127.0.0.1", "::1", "10.0.0.1"]);
    }

    #[test]
    fn only_200_is_well() {
        let is_ok = |text: &str| Answer(text.to_owned()).is_ok();
        assert!(is_ok("HTTP/1.0 200 OK\r\n\r\nok\n"));
        assert!(!is_ok("HTTP/1.0 503 Service Unavailable\r\n\r\n 200 "));
        assert!(!is_ok(""));
    }
}
