//! The wall clock may be set back or forward by hours: a lease lives as long as it was granted for, neither less nor more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::etcdserverpb::{LeaseGrantRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest};
use bytes::Bytes;
use env::{Clock, Monotonic, RealDisk, SystemClock, SystemRng};
use prost::Message;
use server::{Bootstrap, Handle, Member, Settings, World};

const HOUR: u64 = 3600;
const TTL: i64 = 600;
const LEASE: i64 = 7;

/// A wall clock that can be set, beside a monotonic one that can be put forward.
#[derive(Default)]
struct Settable {
    clock: SystemClock,
    wall_seconds: AtomicU64,
    ahead_seconds: AtomicU64,
}

impl Settable {
    fn set_wall(&self, seconds: u64) {
        self.wall_seconds.store(seconds, Ordering::Relaxed);
    }

    fn pass(&self, seconds: u64) {
        self.ahead_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for Settable {
    fn now(&self) -> Monotonic {
        self.clock.now().plus(Duration::from_secs(self.ahead_seconds.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> Duration {
        Duration::from_secs(self.wall_seconds.load(Ordering::Relaxed))
    }
}

async fn grant(handle: &Handle) {
    handle.lease_grant(LeaseGrantRequest { ttl: TTL, id: LEASE }).await.expect("the member works");
    let put = PutRequest { key: Bytes::from("key"), lease: LEASE, ..PutRequest::default() };
    handle.put(put).await.expect("the member works");
}

async fn seconds_left(handle: &Handle) -> i64 {
    let request = LeaseTimeToLiveRequest { id: LEASE, keys: false };
    let reply = handle.lease_time_to_live(request).await.expect("a lone member leads");
    let bytes = reply.body.into_bytes().expect("it is encoded");
    LeaseTimeToLiveResponse::decode(bytes).expect("it is what was asked for").ttl
}

fn has_key(handle: &Handle) -> bool {
    let view = handle.view();
    view.get_at(b"key", view.revision()).expect("the current revision reads").is_some()
}

/// The test itself may take half a minute without being wrong.
fn is_about(seconds: i64, expected: i64) -> bool {
    (expected - 30..=expected).contains(&seconds)
}

/// Runs a member for as long as `work` takes.
fn run(data_dir: &Path, clock: &Arc<Settable>, work: impl AsyncFnOnce(Handle)) {
    let world = World {
        disk: Arc::new(RealDisk),
        clock: clock.clone(),
        rng: Box::new(SystemRng::with_seed(1)),
        peer_listeners: vec![],
    };
    let settings = Settings::new(data_dir.to_owned());
    let begin = Bootstrap::founding(&settings.initial_cluster, &settings.name).expect("the defaults name one member");
    let member = Member::start(settings, &begin, world).expect("a member starts");
    member.wait_ready().expect("the member works");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async { work(member.door().open()).await });
    member.stop().expect("nothing broke");
}

#[test]
fn leases_end_after_their_time_whatever_the_wall_clock_says() {
    let now = 1_000 * HOUR;
    for jump in [now - HOUR, now + HOUR, 0, u64::from(u32::MAX)] {
        let (clock, dir) = (Arc::new(Settable::default()), tempfile::tempdir().expect("a temporary directory"));
        let data_dir = dir.path().join("data");
        clock.set_wall(now);
        run(&data_dir, &clock, async |handle| {
            grant(&handle).await;
            clock.set_wall(jump);
            assert!(is_about(seconds_left(&handle).await, TTL));
            clock.pass(TTL as u64 / 2);
            assert!(is_about(seconds_left(&handle).await, TTL / 2) && has_key(&handle));
        });
        clock.set_wall(now);
        run(&data_dir, &clock, async |handle| {
            clock.set_wall(jump);
            // Nobody knows how long the member was away: the lease has its whole time again, and an election's more.
            assert!(is_about(seconds_left(&handle).await, TTL + 1) && has_key(&handle));
            clock.pass(TTL as u64 + 2);
            while has_key(&handle) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(seconds_left(&handle).await, -1);
        });
    }
}
