//! What the front end counts: calls, messages, connections' bytes, watchers, probes, scrapes.
//!
//! Each worker has numbers of its own, which it alone writes; a scrape adds them up. So counting costs a worker no more than a few plain
//! additions, and a label is looked up once, when a call's path is read.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use api::errors::Code;
use env::{Clock, Monotonic};
use metrics::{Counter, Exposition, Family, Histogram, Reading, names};
use parking_lot::Mutex;
use watch::Message;

use crate::monitoring::Scrapes;
use crate::route::{CallKind, METHODS, MethodId};
use crate::rpc::ClientVersion;

/// Every code, by its number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Versions no client of etcd's has that a worker tells apart, and how long they may be: clients say what they like.
const ODD_VERSIONS_MAX: usize = 16;
const VERSION_BYTES_MAX: usize = 64;
const OTHER_VERSION: &str = "other";
const UNKNOWN_VERSION: &str = "unknown";

/// What all workers of a member count.
pub struct Meters {
    /// Whether calls are timed (`--metrics=extensive`).
    times_calls: bool,
    workers: Mutex<Vec<Arc<Shared>>>,
    pub(crate) health: [Counter; 2],
    checks: [[CheckMeter; Check::COUNT]; Checks::COUNT],
    pub(crate) scrapes: Scrapes,
}

/// The groups of checks, and the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    Livez,
    Readyz,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

#[derive(Default)]
struct CheckMeter {
    failed: Counter,
    passed: Counter,
    /// 1 if it passed last.
    last: Counter,
}

/// One worker's numbers, as a scrape sees them.
struct Shared {
    methods: Vec<MethodMeter>,
    received_bytes: Counter,
    sent_bytes: Counter,
    watch: WatchMeter,
    /// Streams that broke while their requests were read: watches, and renewals of leases.
    broken_watches: Counter,
    broken_keep_alives: Counter,
    versions: VersionMeters,
}

/// Calls by the version that clients say to be of. Each that etcd's clients may have has its place, whatever others say.
#[derive(Default)]
struct VersionMeters {
    unsaid: VersionMeter,
    /// 3.0 and later.
    threes: [VersionMeter; ClientVersion::MINORS],
    /// In the order they came in; once there are enough, all that are new are one.
    odd: Mutex<Vec<(Box<str>, Arc<VersionMeter>)>>,
}

struct MethodMeter {
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: [Counter; CODES.len()],
    took: Option<Histogram>,
}

#[derive(Default)]
struct WatchMeter {
    streams: Counter,
    watchers: Counter,
    behind: Counter,
    events_waiting: Counter,
    events_sent: Counter,
    sending: SendingMeter,
}

/// How long messages of watch streams take from the hub to the connection.
struct SendingMeter {
    controls: Histogram,
    progress: Histogram,
    events: Histogram,
    each_event: Histogram,
}

impl Default for SendingMeter {
    fn default() -> SendingMeter {
        SendingMeter {
            controls: Histogram::new(names::WATCH_LOOP_CONTROL.buckets()),
            progress: Histogram::new(names::WATCH_LOOP_PROGRESS.buckets()),
            events: Histogram::new(names::WATCH_LOOP_EVENTS.buckets()),
            each_event: Histogram::new(names::WATCH_LOOP_EVENT.buckets()),
        }
    }
}

#[derive(Default)]
struct VersionMeter {
    unary: Counter,
    streams: Counter,
}

/// One worker's numbers, as the worker writes them.
pub(crate) struct WorkerMeters {
    shared: Arc<Shared>,
    /// If calls are timed.
    clock: Option<Arc<dyn Clock>>,
}

/// Messages of a watch stream that leave together. They share the time it takes equally.
#[derive(Default)]
pub(crate) struct WatchBatch {
    pub(crate) messages: usize,
    /// Without prefixes.
    pub(crate) bytes: usize,
    // Only if it is timed:
    begun_at: Option<Monotonic>,
    controls: usize,
    with_events: usize,
    events: usize,
}

/// Counts one call from its start to its end, which it has at the latest when this is dropped.
pub(crate) struct CallMeter {
    worker: Rc<WorkerMeters>,
    method: MethodId,
    begun_at: Option<Monotonic>,
    is_over: bool,
}

/// Counts the messages of one call.
pub(crate) struct MessageMeter {
    worker: Rc<WorkerMeters>,
    method: MethodId,
}

impl Meters {
    pub fn new(times_calls: bool) -> Arc<Meters> {
        Arc::new(Meters {
            times_calls,
            workers: Mutex::default(),
            health: Default::default(),
            checks: Default::default(),
            scrapes: Scrapes::default(),
        })
    }

    /// For one more worker.
    pub(crate) fn new_worker(&self, clock: &Arc<dyn Clock>) -> Rc<WorkerMeters> {
        let method = |_| MethodMeter {
            started: Counter::new(),
            received: Counter::new(),
            sent: Counter::new(),
            handled: Default::default(),
            took: self.times_calls.then(|| Histogram::new(names::CALL_DURATION.buckets())),
        };
        let shared = Arc::new(Shared {
            methods: METHODS.iter().map(method).collect(),
            received_bytes: Counter::new(),
            sent_bytes: Counter::new(),
            watch: WatchMeter::default(),
            broken_watches: Counter::new(),
            broken_keep_alives: Counter::new(),
            versions: VersionMeters::default(),
        });
        self.workers.lock().push(shared.clone());
        let clock = self.times_calls.then(|| clock.clone());
        Rc::new(WorkerMeters { shared, clock })
    }

    pub(crate) fn note_check(&self, checks: Checks, check: Check, passed: bool) {
        let meter = &self.checks[checks as usize][check as usize];
        if passed { &meter.passed } else { &meter.failed }.increment();
        meter.last.set(u64::from(passed));
    }

    /// Tells all of it.
    pub(crate) fn collect(&self, out: &mut Exposition) {
        let workers = self.workers.lock().clone();
        collect_calls(&workers, out);
        collect_watches(&workers, out);
        self.collect_probes(out);
        out.value(&names::SCRAPING, self.scrapes.under_way() as f64);
        for (code, count) in [("200", self.scrapes.told.get()), ("500", 0), ("503", self.scrapes.refused.get())] {
            out.labelled(&names::SCRAPES, &[("code", code)], count as f64);
        }
    }

    fn collect_probes(&self, out: &mut Exposition) {
        let [failures, successes] = &self.health;
        out.value(&names::HEALTH_FAILURES, failures.get() as f64);
        out.value(&names::HEALTH_SUCCESS, successes.get() as f64);
        for checks in Checks::ALL {
            for check in Check::ALL {
                let meter = &self.checks[checks as usize][check as usize];
                let (passed, failed) = (meter.passed.get(), meter.failed.get());
                let (kind, name) = (("type", checks.name()), ("name", check.name()));
                if passed + failed > 0 {
                    out.labelled(&names::HEALTH_CHECK, &[kind, name], meter.last.get() as f64);
                }
                for (status, count) in
                    [("success", passed), ("error", failed)].into_iter().filter(|(_, count)| *count > 0)
                {
                    out.labelled(&names::HEALTH_CHECKS, &[kind, name, ("status", status)], count as f64);
                }
            }
        }
    }
}

fn sum(workers: &[Arc<Shared>], of: impl Fn(&Shared) -> &Counter) -> f64 {
    workers.iter().map(|worker| of(worker).get()).sum::<u64>() as f64
}

fn collect_calls(workers: &[Arc<Shared>], out: &mut Exposition) {
    for (number, method) in METHODS.iter().enumerate() {
        let labels =
            [("grpc_method", method.name), ("grpc_service", method.service), ("grpc_type", method.kind.name())];
        let sum_of = |of: fn(&MethodMeter) -> &Counter| sum(workers, |worker| of(&worker.methods[number]));
        out.labelled(&names::CALLS_STARTED, &labels, sum_of(|meter| &meter.started));
        out.labelled(&names::MESSAGES_RECEIVED, &labels, sum_of(|meter| &meter.received));
        out.labelled(&names::MESSAGES_SENT, &labels, sum_of(|meter| &meter.sent));
        for (code, name) in CODES.iter().enumerate() {
            let [method, service, kind] = labels;
            let labels = [("grpc_code", *name), method, service, kind];
            out.labelled(&names::CALLS_HANDLED, &labels, sum(workers, |worker| &worker.methods[number].handled[code]));
        }
        let mut took = Reading::empty(names::CALL_DURATION.buckets());
        let timed = workers.iter().filter_map(|worker| worker.methods[number].took.as_ref());
        if timed.inspect(|histogram| took.add(histogram)).count() > 0 {
            out.histogram(&names::CALL_DURATION, &labels, &took);
        }
    }
    out.value(&names::CLIENT_RECEIVED, sum(workers, |worker| &worker.received_bytes));
    out.value(&names::CLIENT_SENT, sum(workers, |worker| &worker.sent_bytes));
    for (api, of) in [
        ("watch", (|worker| &worker.broken_watches) as fn(&Shared) -> &Counter),
        ("lease-keepalive", |worker| &worker.broken_keep_alives),
    ] {
        let count = sum(workers, of);
        if count > 0.0 {
            out.labelled(&names::STREAM_FAILURES, &[("Type", "receive"), ("API", api)], count);
        }
    }
    let mut versions = std::collections::BTreeMap::<Box<str>, [u64; 2]>::new();
    let mut add = |version: &str, meter: &VersionMeter| {
        let [unary, streams] = versions.entry(version.into()).or_default();
        *unary += meter.unary.get();
        *streams += meter.streams.get();
    };
    for meters in workers.iter().map(|worker| &worker.versions) {
        add(UNKNOWN_VERSION, &meters.unsaid);
        meters.threes.iter().enumerate().for_each(|(minor, meter)| add(&format!("3.{minor}"), meter));
        meters.odd.lock().iter().for_each(|(version, meter)| add(version, meter));
    }
    for (version, counts) in versions {
        for (kind, count) in ["unary", "stream"].into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            let labels = [("type", kind), ("client_api_version", &*version)];
            out.labelled(&names::CLIENT_REQUESTS, &labels, count as f64);
        }
    }
}

fn collect_watches(workers: &[Arc<Shared>], out: &mut Exposition) {
    out.value(&names::WATCH_STREAMS, sum(workers, |worker| &worker.watch.streams));
    out.value(&names::WATCHERS, sum(workers, |worker| &worker.watch.watchers));
    out.value(&names::WATCHERS_SLOW, sum(workers, |worker| &worker.watch.behind));
    out.value(&names::EVENTS_PENDING, sum(workers, |worker| &worker.watch.events_waiting));
    out.value(&names::EVENTS, sum(workers, |worker| &worker.watch.events_sent));
    let mut sending = |family: &Family, of: fn(&SendingMeter) -> &Histogram| {
        let mut reading = Reading::empty(family.buckets());
        workers.iter().for_each(|worker| reading.add(of(&worker.watch.sending)));
        out.histogram(family, &[], &reading);
    };
    sending(&names::WATCH_LOOP_CONTROL, |meter| &meter.controls);
    sending(&names::WATCH_LOOP_PROGRESS, |meter| &meter.progress);
    sending(&names::WATCH_LOOP_EVENTS, |meter| &meter.events);
    sending(&names::WATCH_LOOP_EVENT, |meter| &meter.each_event);
}

impl WorkerMeters {
    /// A call begins.
    pub(crate) fn begin(self: &Rc<Self>, method: MethodId) -> CallMeter {
        self.shared.methods[method.0].started.add_alone(1);
        let begun_at = self.now();
        CallMeter { worker: self.clone(), method, begun_at, is_over: false }
    }

    /// A call of a client that says to be of `version` is let through.
    pub(crate) fn count_request(&self, kind: CallKind, version: &ClientVersion) {
        let versions = &self.shared.versions;
        match version {
            ClientVersion::Unsaid => versions.unsaid.count(kind),
            ClientVersion::Three(minor) => versions.threes[usize::from(*minor)].count(kind),
            ClientVersion::Other(version) => versions.odd(version.as_bytes()).count(kind),
        }
    }

    /// The time, if such things are measured.
    pub(crate) fn now(&self) -> Option<Monotonic> {
        self.clock.as_ref().map(|clock| clock.now())
    }

    /// One more message of a watch stream is about to be written.
    pub(crate) fn add_to_batch(&self, batch: &mut WatchBatch, message: &Message) {
        batch.messages += 1;
        let Some(clock) = &self.clock else { return };
        batch.begun_at.get_or_insert_with(|| clock.now());
        let events = message.events().count();
        if events > 0 {
            batch.with_events += 1;
            batch.events += events;
        } else if message.created || message.canceled {
            batch.controls += 1;
        }
    }

    /// All of a batch has been handed to the connection.
    pub(crate) fn end_batch(&self, batch: &WatchBatch) {
        let (Some(clock), Some(begun_at)) = (&self.clock, batch.begun_at) else { return };
        let divided = |took: Duration, by: usize| took / u32::try_from(by).unwrap_or(u32::MAX);
        let share = divided(clock.now().since(begun_at), batch.messages);
        let meter = &self.shared.watch.sending;
        for (histogram, count) in [
            (&meter.controls, batch.controls),
            (&meter.progress, batch.messages - batch.controls - batch.with_events),
            (&meter.events, batch.with_events),
        ] {
            histogram.observe_equal_alone(share, count as u64);
        }
        if batch.with_events > 0 {
            let events_each = batch.events.div_ceil(batch.with_events);
            meter.each_event.observe_equal_alone(divided(share, events_each), batch.with_events as u64);
        }
    }

    pub(crate) fn watch_broke(&self) {
        self.shared.broken_watches.add_alone(1);
    }

    pub(crate) fn keep_alive_broke(&self) {
        self.shared.broken_keep_alives.add_alone(1);
    }

    pub(crate) fn set_watch(&self, counts: watch::Counts) {
        let meter = &self.shared.watch;
        meter.streams.set(counts.streams as u64);
        meter.watchers.set(counts.watchers as u64);
        meter.behind.set(counts.behind as u64);
        meter.events_waiting.set(counts.events_waiting);
        meter.events_sent.set(counts.events_sent);
    }
}

impl VersionMeters {
    fn odd(&self, version: &[u8]) -> Arc<VersionMeter> {
        let mut odd = self.odd.lock();
        let is_taken_in = version.len() <= VERSION_BYTES_MAX && odd.len() < ODD_VERSIONS_MAX;
        let find = |odd: &[(Box<str>, Arc<VersionMeter>)], name: &[u8]| {
            odd.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, meter)| meter.clone())
        };
        let name = std::str::from_utf8(version).ok().filter(|_| is_taken_in).unwrap_or(OTHER_VERSION);
        find(&odd, version).or_else(|| find(&odd, name.as_bytes())).unwrap_or_else(|| {
            let meter = Arc::<VersionMeter>::default();
            odd.push((name.into(), meter.clone()));
            meter
        })
    }
}

impl VersionMeter {
    fn count(&self, kind: CallKind) {
        match kind {
            CallKind::Unary => self.unary.add_alone(1),
            CallKind::ServerStream | CallKind::BidiStream => self.streams.add_alone(1),
        }
    }
}

impl CallMeter {
    /// The call ends with this status.
    pub(crate) fn end(mut self, code: Code) {
        self.note_end(code);
    }

    /// For what the call receives.
    pub(crate) fn messages(&self) -> MessageMeter {
        MessageMeter { worker: self.worker.clone(), method: self.method }
    }

    /// So many messages of so many bytes together, their prefixes not among them, are on their way.
    pub(crate) fn sent(&self, count: usize, bytes: usize) {
        self.worker.shared.methods[self.method.0].sent.add_alone(count as u64);
        self.worker.shared.sent_bytes.add_alone(bytes as u64);
    }

    fn note_end(&mut self, code: Code) {
        self.is_over = true;
        let meter = &self.worker.shared.methods[self.method.0];
        meter.handled[code as usize].add_alone(1);
        if let (Some(took), Some(begun_at), Some(clock)) = (&meter.took, self.begun_at, &self.worker.clock) {
            took.observe_alone(clock.now().since(begun_at));
        }
    }
}

impl Drop for CallMeter {
    /// Whoever drops a call without an answer has nobody left to answer.
    fn drop(&mut self) {
        if !self.is_over {
            self.note_end(Code::Cancelled);
        }
    }
}

impl MessageMeter {
    pub(crate) fn received(&self, bytes: usize) {
        self.worker.shared.methods[self.method.0].received.add_alone(1);
        self.worker.shared.received_bytes.add_alone(bytes as u64);
    }
}

impl Checks {
    const COUNT: usize = 2;
    const ALL: [Checks; Checks::COUNT] = [Checks::Livez, Checks::Readyz];

    fn name(self) -> &'static str {
        match self {
            Checks::Livez => "livez",
            Checks::Readyz => "readyz",
        }
    }
}

impl Check {
    const COUNT: usize = 4;
    const ALL: [Check; Check::COUNT] =
        [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

#[cfg(test)]
mod tests {
    use env::SystemClock;

    use super::*;
    use crate::route::Route;

    fn told(meters: &Meters) -> String {
        let mut out = Exposition::default();
        meters.collect(&mut out);
        out.finish()
    }

    fn worker(times_calls: bool) -> (Arc<Meters>, Rc<WorkerMeters>) {
        let meters = Meters::new(times_calls);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let worker = meters.new_worker(&clock);
        (meters, worker)
    }

    #[test]
    fn a_call_ends_once_whatever_becomes_of_it() {
        let (meters, worker) = worker(true);
        let other = meters.new_worker(&(Arc::new(SystemClock::default()) as Arc<dyn Clock>));
        worker.begin(Route::Put.id()).end(Code::Ok);
        other.begin(Route::Put.id()).end(Code::Ok);
        let call = worker.begin(Route::Put.id());
        call.messages().received(10);
        call.sent(1, 20);
        drop(call);
        let told = told(&meters);
        let method = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        for line in [
            format!("grpc_server_started_total{{{method}}} 3"),
            format!(r#"grpc_server_handled_total{{grpc_code="OK",{method}}} 2"#),
            format!(r#"grpc_server_handled_total{{grpc_code="Canceled",{method}}} 1"#),
            format!("grpc_server_handling_seconds_count{{{method}}} 3"),
            format!("grpc_server_msg_received_total{{{method}}} 1"),
            "etcd_network_client_grpc_received_bytes_total 10".to_owned(),
            "etcd_network_client_grpc_sent_bytes_total 20".to_owned(),
        ] {
            assert!(told.lines().any(|told| told == line), "{line}");
        }
    }

    /// A second passes between one look at it and the next.
    #[derive(Default)]
    struct Ticking(Counter);

    impl Clock for Ticking {
        fn now(&self) -> Monotonic {
            self.0.increment();
            Monotonic(self.wall())
        }

        fn wall(&self) -> Duration {
            Duration::from_secs(self.0.get())
        }
    }

    #[test]
    fn what_leaves_together_shares_two_looks_at_the_clock() {
        for times_calls in [false, true] {
            let (meters, ticking) = (Meters::new(times_calls), Arc::new(Ticking::default()));
            let worker = meters.new_worker(&(ticking.clone() as Arc<dyn Clock>));
            let mut created = Message::default();
            created.created = true;
            let mut batch = WatchBatch::default();
            for message in [created, Message::default(), Message::default(), Message::default()] {
                worker.add_to_batch(&mut batch, &message);
            }
            worker.end_batch(&batch);
            assert_eq!((batch.messages, ticking.0.get()), (4, if times_calls { 2 } else { 0 }));
            let sending = &worker.shared.watch.sending;
            for (histogram, count) in [(&sending.controls, 1), (&sending.progress, 3), (&sending.events, 0)] {
                let expected = Histogram::new(names::WATCH_LOOP_EVENTS.buckets());
                expected.observe_equal(Duration::from_millis(250), if times_calls { count } else { 0 });
                assert_eq!(histogram.read(), expected.read());
            }
        }
    }

    #[test]
    fn what_clients_say_of_themselves_takes_no_more_than_so_much_and_hides_nobody() {
        let (meters, worker) = worker(false);
        let odd = |version: &[u8]| ClientVersion::Other(http::HeaderValue::from_bytes(version).unwrap());
        worker.count_request(CallKind::Unary, &ClientVersion::Unsaid);
        for number in 0..1000 {
            worker.count_request(CallKind::Unary, &odd(format!("version {number}").as_bytes()));
        }
        worker.count_request(CallKind::Unary, &odd(&[b'x'; 1000]));
        worker.count_request(CallKind::BidiStream, &ClientVersion::Three(5));
        let told = told(&meters);
        let lines: Vec<_> = told.lines().filter(|line| line.starts_with("etcd_server_client_requests_total")).collect();
        assert_eq!(lines.len(), ODD_VERSIONS_MAX + 1 + 2);
        for (kind, version, count) in [
            ("unary", "unknown", 1),
            ("unary", "version 0", 1),
            ("unary", "other", 1001 - ODD_VERSIONS_MAX),
            ("stream", "3.5", 1),
        ] {
            let line =
                format!(r#"etcd_server_client_requests_total{{type="{kind}",client_api_version="{version}"}} {count}"#);
            assert!(lines.contains(&&*line), "{line}");
        }
    }
}
