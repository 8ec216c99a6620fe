//! An answer whose client does not take it cannot keep compacted history on the disk for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use bytes::{Bytes, BytesMut};
use env::{Clock, Monotonic, RealDisk, SystemClock, SystemRng};
use mvcc::MvccError;
use server::{Body, Bootstrap, Handle, Member, Settings, World};

/// A clock that can be put forward.
#[derive(Default)]
struct Forwarded {
    clock: SystemClock,
    ahead_seconds: AtomicU64,
}

impl Clock for Forwarded {
    fn now(&self) -> Monotonic {
        self.clock.now().plus(Duration::from_secs(self.ahead_seconds.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> Duration {
        self.clock.wall()
    }
}

async fn put(handle: &Handle, key: &'static str, value: &'static str) -> i64 {
    let request = PutRequest { key: Bytes::from(key), value: Bytes::from(value), ..PutRequest::default() };
    handle.put(request).await.expect("the member works").revision
}

#[test]
fn an_answer_that_is_not_taken_for_half_a_minute_lets_a_physical_compaction_end() {
    let (clock, dir) = (Arc::new(Forwarded::default()), tempfile::tempdir().expect("a temporary directory"));
    let world = World {
        disk: Arc::new(RealDisk),
        clock: clock.clone(),
        rng: Box::new(SystemRng::with_seed(1)),
        peer_listeners: vec![],
    };
    let settings = Settings::new(dir.path().join("data"));
    let begin = Bootstrap::founding(&settings.initial_cluster, &settings.name).expect("the defaults name one member");
    let member = Member::start(settings, &begin, world).expect("a new member starts");
    member.wait_ready().expect("the member works");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let served = tokio::task::LocalSet::new();
    served.block_on(&runtime, async {
        let handle = member.door().open();
        put(&handle, "a", "old").await;
        let revision = put(&handle, "b", "old").await;
        let last = put(&handle, "a", "new").await;
        let range =
            RangeRequest { key: Bytes::from("a"), range_end: Bytes::from("c"), revision, ..RangeRequest::default() };
        let Body::Rows(mut unread) = handle.range(range).await.expect("it can be read").body else {
            panic!("a range is answered with rows");
        };
        let compaction = handle.compact(CompactionRequest { revision: last, physical: true });
        let mut compaction = std::pin::pin!(compaction);
        // When removal begins to wait cannot be seen from here, so time goes on until it has ended.
        while tokio::time::timeout(Duration::from_millis(20), &mut compaction).await.is_err() {
            clock.ahead_seconds.fetch_add(10, Ordering::Relaxed);
        }
        assert!(matches!(unread.encode_next(&mut BytesMut::new(), 1), Err(MvccError::Compacted)));
    });
    drop(served);
    member.stop().expect("nothing broke");
}
