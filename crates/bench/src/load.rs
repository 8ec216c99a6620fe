//! Drives one workload: connections, streams, pace, and what came of it.

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use testkit::grpc::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::workload::{Maker, Workload};

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each stream sends when its last request was answered.
    Closed,
    /// So many a second in all, whether or not earlier ones were answered; latency counts from when one was due.
    Open(f64),
}

pub(crate) struct Load {
    /// Connections are spread over them.
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) workload: Workload,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
    pub(crate) key_size: usize,
    pub(crate) value_size: usize,
    pub(crate) keys: u64,
    pub(crate) seed: u64,
}

/// What was measured.
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) elapsed: Duration,
    /// Nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) first_error: Option<String>,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} errors in {:.2} s: {:.0}/s; p50 {:.0} us, p99 {:.0} us, max {:.0} us",
            self.operations,
            self.errors,
            self.elapsed.as_secs_f64(),
            self.per_second(),
            self.latency_us(0.5),
            self.latency_us(0.99),
            self.latency_us(1.0),
        )?;
        match &self.first_error {
            Some(error) => write!(f, "; first error: {error}"),
            None => Ok(()),
        }
    }
}

/// For latencies from a nanosecond to ten minutes, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("the bounds are in order")
}

struct Tally {
    operations: u64,
    errors: u64,
    latencies: Histogram<u64>,
    first_error: Option<String>,
}

impl Load {
    /// Connects, then drives the load for its duration.
    ///
    /// # Errors
    /// If a connection cannot be made. Requests that fail are counted instead.
    pub(crate) async fn run(&self) -> anyhow::Result<Outcome> {
        let mut clients = Vec::with_capacity(self.connections);
        for endpoint in self.endpoints.iter().cycle().take(self.connections) {
            clients.push(Client::connect(*endpoint).await.with_context(|| format!("connecting {endpoint}"))?);
        }
        let tally =
            Rc::new(RefCell::new(Tally { operations: 0, errors: 0, latencies: histogram(), first_error: None }));
        let start = Instant::now();
        let end = start + self.duration;
        let value = Bytes::from(vec![b'v'; self.value_size]);
        let stream_count = self.connections * self.streams;
        let mut streams = JoinSet::new();
        for number in 0..stream_count {
            let maker = Maker {
                workload: self.workload,
                key_size: self.key_size,
                value: value.clone(),
                keys: self.keys,
                random: fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(number as u64)),
            };
            let client = clients[number % self.connections].clone();
            let schedule = self.schedule(number, stream_count, start);
            streams.spawn_local(run_stream(client, maker, schedule, end, tally.clone()));
        }
        while streams.join_next().await.is_some() {}
        let elapsed = start.elapsed();
        let tally = Rc::into_inner(tally).expect("every stream has ended").into_inner();
        Ok(Outcome {
            operations: tally.operations,
            errors: tally.errors,
            elapsed,
            latencies: tally.latencies,
            first_error: tally.first_error,
        })
    }

    /// When this stream's first request is due, and how far apart the others are.
    fn schedule(&self, stream: usize, streams: usize, start: Instant) -> Option<(Instant, Duration)> {
        match self.pace {
            Pace::Closed => None,
            Pace::Open(rate) => {
                let apart = Duration::from_secs_f64(streams as f64 / rate);
                Some((start + apart.mul_f64(stream as f64 / streams as f64), apart))
            }
        }
    }
}

async fn run_stream(
    client: Client,
    mut maker: Maker,
    mut schedule: Option<(Instant, Duration)>,
    end: Instant,
    tally: Rc<RefCell<Tally>>,
) {
    loop {
        let due = match &mut schedule {
            None => Instant::now(),
            Some((next, apart)) => {
                let due = *next;
                *next += *apart;
                tokio::time::sleep_until(due).await;
                due
            }
        };
        if due >= end {
            return;
        }
        let (path, body) = maker.next();
        let answer = client.call(path, &[], body).await;
        let latency = due.elapsed();
        let mut tally = tally.borrow_mut();
        match answer {
            Ok(_) => {
                tally.operations += 1;
                tally.latencies.saturating_record(latency.as_nanos() as u64);
            }
            Err(status) => {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| format!("{status:?}"));
                if status.is_transport() {
                    return;
                }
            }
        }
    }
}
