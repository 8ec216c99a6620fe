//! What monitoring asks over plain HTTP: `/metrics`, and `/debug/vars`.

use std::io::Write;
use std::sync::Arc;

use api::errors;
use consensus::{Role, Sending};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use metrics::{Counter, Exposition, process};
use serde_json::{Value, json};
use server::RaftStatus;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http1::{Answer, text, whole};
use crate::transport::Account;
use crate::worker::Worker;

/// Whatever a scraper says that it takes; etcd's says so, too.
const EXPOSITION: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
const VARIABLES: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Scrapes of a member that are put together at once. Each is some hundred kilobytes of text, and a thread's work.
pub(crate) const SCRAPES_AT_ONCE: usize = 3;
/// And with those that wait for their turn: as many as may come at the same moment.
pub(crate) const SCRAPES_MAX: usize = 32;

/// The scrapes of a member, over all its workers.
pub(crate) struct Scrapes {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    pub(crate) told: Counter,
    pub(crate) refused: Counter,
}

/// A scrape that has its turn until this is dropped.
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl Default for Scrapes {
    fn default() -> Scrapes {
        Scrapes {
            places: Arc::new(Semaphore::new(SCRAPES_MAX)),
            turns: Arc::new(Semaphore::new(SCRAPES_AT_ONCE)),
            told: Counter::new(),
            refused: Counter::new(),
        }
    }
}

impl Scrapes {
    /// Waits for a turn; `None` if too many do already.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let turn = self.turns.clone().acquire_owned().await.ok()?;
        Some(Turn { _place: place, _turn: turn })
    }

    /// Those that have their turn, or wait for it.
    pub(crate) fn under_way(&self) -> usize {
        SCRAPES_MAX - self.places.available_permits()
    }
}

/// All there is to tell, in Prometheus' text format.
pub(crate) async fn metrics(worker: &Worker, account: &Account, headers: &HeaderMap) -> Answer {
    let meters = worker.all_meters().clone();
    if !account.has_room() {
        meters.scrapes.refused.increment();
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", errors::TOO_MANY_REQUESTS.text));
    }
    let Some(turn) = meters.scrapes.turn().await else {
        meters.scrapes.refused.increment();
        // The words of Prometheus' own handler.
        let why = format!("Limit of concurrent requests reached ({SCRAPES_MAX}), try again later.\n");
        return text(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let of_member = worker.handle().scrape();
    let compressed = takes_gzip(headers);
    let told = tokio::task::spawn_blocking({
        let meters = meters.clone();
        move || {
            // Until it is done, whether whoever asks is gone by then or not.
            let _turn = turn;
            let mut out = Exposition::default();
            of_member(&mut out);
            meters.collect(&mut out);
            process::collect(&mut out);
            let told = out.finish().into_bytes();
            if compressed { compress(&told) } else { told }
        }
    });
    let Ok(told) = told.await else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the numbers cannot be told\n".into());
    };
    meters.scrapes.told.increment();
    let mut answer = whole(account.leaving(told.into(), false));
    answer.headers_mut().insert(CONTENT_TYPE, EXPOSITION);
    if compressed {
        answer.headers_mut().insert(CONTENT_ENCODING, GZIP);
    }
    answer
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    encodings.flat_map(|value| value.split(',')).any(|encoding| {
        let mut parts = encoding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        is_gzip && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn compress(told: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(told).expect("memory takes what is written");
    encoder.finish().expect("memory takes what is written")
}

/// The variables that etcd publishes by Go's `expvar`. Of Go's account of memory there is what has a meaning here: `Sys` is the address space,
/// and `Alloc` the memory in use.
pub(crate) fn variables(worker: &Worker) -> Answer {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let usage = process::usage();
    let memory = usage.map_or(Value::Null, |usage| json!({"Alloc": usage.resident_bytes, "Sys": usage.virtual_bytes}));
    let variables = [
        ("cmdline", json!(arguments)),
        ("file_descriptor_limit", json!(process::open_files_max())),
        ("memstats", memory),
        ("raft.status", raft_status(worker)),
    ];
    let lines: Vec<String> = variables.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    let mut answer = whole(format!("{{\n{}\n}}\n", lines.join(",\n")));
    answer.headers_mut().insert(CONTENT_TYPE, VARIABLES);
    answer
}

fn raft_status(worker: &Worker) -> Value {
    let RaftStatus { id, status, vote, applied, progress } = worker.handle().raft_status();
    let role = match status.role {
        Role::Follower => "StateFollower",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    };
    let progress = progress.iter().map(|progress| {
        let state = match progress.sending {
            Sending::Probe => "StateProbe",
            Sending::Replicate => "StateReplicate",
            Sending::Snapshot => "StateSnapshot",
        };
        let told = json!({"match": progress.matched.0, "next": progress.next.0, "state": state});
        (progress.member.to_string(), told)
    });
    json!({
        "id": id.to_string(),
        "term": status.term.0,
        "vote": vote.to_string(),
        "commit": status.commit.0,
        "lead": status.leader.to_string(),
        "raftState": role,
        "applied": applied.0,
        "progress": progress.collect::<serde_json::Map<_, _>>(),
        "leadtransferee": status.transferee.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn scrapes_take_turns() {
        let scrapes = Scrapes::default();
        let mut turns: Vec<_> =
            (0..SCRAPES_AT_ONCE).map(|_| scrapes.turn().now_or_never().flatten().unwrap()).collect();
        let mut waiting: Vec<_> = (SCRAPES_AT_ONCE..SCRAPES_MAX).map(|_| Box::pin(scrapes.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        assert_eq!(scrapes.under_way(), SCRAPES_MAX);
        assert!(scrapes.turn().now_or_never().is_some_and(|turn| turn.is_none()), "one too many");
        // Of two that give way, one had its turn.
        drop((turns.pop(), waiting.pop()));
        assert!(waiting.remove(0).now_or_never().flatten().is_some());
        drop((turns, waiting));
        assert_eq!(scrapes.under_way(), 0);
    }

    #[test]
    fn gzip_is_for_who_takes_it() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip") && takes("deflate, GZIP;q=0.5") && takes("gzip;q=0.01"));
        assert!(!takes("") && !takes("identity") && !takes("gzip;q=0") && !takes("xgzip"));
    }
}
