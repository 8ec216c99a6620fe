//! Makes the random requests.

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use bytes::Bytes;
use prost::Message;

use super::step::{Step, WatchKind};
use crate::request::{TargetUnion, op};

/// What the generator must know of the servers to ask sensible things.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub revision: i64,
    pub compacted: i64,
    /// Live watches: stream and id.
    pub watches: Vec<(WatchKind, i64)>,
}

/// A source of steps; equal seeds and worlds give equal steps.
#[derive(Debug)]
pub struct Generator {
    random: fastrand::Rng,
}

/// Few keys, so that requests meet: twelve that are sorted by anything, and more that ranges run over.
const NARROW: &[u8; 12] = b"abcdefghijkl";
const WIDE: usize = 300;

/// So many watches at most are live at once.
const WATCHES_MAX: usize = 40;

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: fastrand::Rng::with_seed(seed) }
    }

    /// The next step.
    pub fn step(&mut self, world: &World) -> Step {
        match self.random.u32(0..1000) {
            0..290 => Step::Put(self.put()),
            290..510 => Step::Range(self.range(world, true)),
            510..590 => Step::DeleteRange(self.delete()),
            590..810 => Step::Txn(self.txn(world, 0)),
            810..813 => Step::Compact(self.compact(world)),
            813..836 => Step::LeaseGrant(LeaseGrantRequest { id: self.nonzero_lease(), ttl: self.ttl() }),
            836..840 => Step::LeaseOfTheServersChoice(self.ttl()),
            840..852 => Step::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            852..868 => Step::LeaseTimeToLive(LeaseTimeToLiveRequest { id: self.lease(), keys: self.random.bool() }),
            868..872 => Step::LeaseLeases,
            872..884 => Step::LeaseKeepAlive(self.lease()),
            884..887 => Step::AlarmList,
            887..897 => Step::HashKv(HashKvRequest { revision: self.hash_revision(world) }),
            897..903 => self.truncated(world),
            903..915 => Step::WatchProgress,
            915..930 => self.cancel(world),
            _ if world.watches.len() >= WATCHES_MAX => self.cancel(world),
            930..965 => self.watch(world),
            _ => Step::Put(self.put()),
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.random.u32(0..count) == 0
    }

    fn narrow_key(&mut self) -> Bytes {
        let at = self.random.usize(0..NARROW.len());
        Bytes::from_static(&NARROW[at..=at])
    }

    fn wide_key(&mut self) -> Bytes {
        Bytes::from(format!("w{:03}", self.random.usize(0..WIDE)))
    }

    fn key(&mut self) -> Bytes {
        match self.random.u32(0..100) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => Bytes::from_static(b"\xff\xff"),
            3..60 => self.narrow_key(),
            _ => self.wide_key(),
        }
    }

    /// A `range_end` for `key`: none, "to the end", or another key before or behind it.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.u32(0..20) {
            0..8 => Bytes::new(),
            8 => Bytes::from_static(b"\0"),
            9 => key.clone(),
            10..13 => self.wide_key(),
            13..15 => Bytes::from_static(b"w"),
            _ => self.narrow_key(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.random.u32(0..40) {
            0 => Bytes::new(),
            1 => Bytes::from(vec![self.random.u8(..); self.random.usize(0..20_000)]),
            _ => Bytes::from(format!("v{}", self.random.u32(0..20))),
        }
    }

    fn lease(&mut self) -> i64 {
        [0, 1, 2, 3, 4, 5, 6, 7, -8, i64::MAX][self.random.usize(0..10)]
    }

    fn nonzero_lease(&mut self) -> i64 {
        match self.lease() {
            0 => 1,
            id => id,
        }
    }

    /// Never so short that a lease runs out while the test goes on.
    fn ttl(&mut self) -> i64 {
        match self.random.u32(0..10) {
            0 => 9_000_000_001,
            1 => i64::MAX,
            2 => 9_000_000_000,
            _ => self.random.i64(100_000..200_000),
        }
    }

    /// A revision to read at: mostly the current one, else any that is held, and those just outside.
    fn revision(&mut self, world: &World) -> i64 {
        match self.random.u32(0..40) {
            0 => -1,
            1 => world.compacted - 1,
            2 => world.compacted,
            3 => world.compacted + 1,
            4 => world.revision,
            5 => world.revision + 1,
            6 => i64::MAX,
            7..12 => self.random.i64(world.compacted.min(world.revision)..=world.revision),
            _ => 0,
        }
    }

    /// As `revision`, but not near the compacted one: the hash at a compaction's own revision depends on whether its
    /// removal has run.
    fn hash_revision(&mut self, world: &World) -> i64 {
        match self.random.u32(0..4) {
            0 => world.revision + 1,
            1 => world.revision,
            2 => world.compacted - 1,
            _ => 0,
        }
    }

    /// `whole`: a request of its own, whose ties the comparison allows for; inside a transaction only what is sorted the
    /// same way everywhere.
    fn range(&mut self, world: &World, whole: bool) -> RangeRequest {
        let mut request = RangeRequest { revision: self.revision(world), ..RangeRequest::default() };
        request.key = self.key();
        request.range_end = self.range_end(&request.key);
        if self.one_in(3) {
            request.limit = self.random.i64(-1..8);
        }
        if self.one_in(3) {
            request.sort_order = self.random.i32(0..3);
            request.sort_target = self.random.i32(0..5);
            if !whole && request.sort_target != 0 {
                request.key = self.narrow_key();
                request.range_end = self.narrow_key();
            }
        }
        request.keys_only = self.one_in(6);
        request.count_only = self.one_in(8);
        request.serializable = self.one_in(4);
        if self.one_in(6) {
            request.min_mod_revision = self.random.i64(-1..=world.revision);
        }
        if self.one_in(6) {
            request.max_mod_revision = self.random.i64(-1..=world.revision);
        }
        if self.one_in(10) {
            request.min_create_revision = self.random.i64(-1..=world.revision);
        }
        if self.one_in(10) {
            request.max_create_revision = self.random.i64(-1..=world.revision);
        }
        request
    }

    fn put(&mut self) -> PutRequest {
        let mut request = PutRequest { key: self.key(), value: self.value(), ..PutRequest::default() };
        if self.one_in(5) {
            request.lease = self.lease();
        }
        request.prev_kv = self.one_in(4);
        if self.one_in(10) {
            request.ignore_value = true;
            if !self.one_in(8) {
                request.value = Bytes::new();
            }
        }
        if self.one_in(10) {
            request.ignore_lease = true;
            if !self.one_in(8) {
                request.lease = 0;
            }
        }
        request
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        // Deletions of all keys would leave little to collide with.
        let range_end = if self.one_in(3) { self.range_end(&key) } else { Bytes::new() };
        let range_end = if range_end == "\0" && !self.one_in(10) { Bytes::new() } else { range_end };
        DeleteRangeRequest { key, range_end, prev_kv: self.random.bool() }
    }

    fn txn(&mut self, world: &World, depth: u32) -> TxnRequest {
        TxnRequest {
            compare: self.list(3, |generator| generator.compare(world)),
            success: self.list(4, |generator| generator.op(world, depth)),
            failure: self.list(4, |generator| generator.op(world, depth)),
        }
    }

    fn list<T>(&mut self, below: usize, mut make: impl FnMut(&mut Generator) -> T) -> Vec<T> {
        (0..self.random.usize(0..below)).map(|_| make(self)).collect()
    }

    fn op(&mut self, world: &World, depth: u32) -> RequestOp {
        match self.random.u32(0..100) {
            0 => RequestOp { request: None },
            1..40 => op(Request::RequestPut(self.put())),
            40..65 => op(Request::RequestRange(self.range(world, false))),
            65..80 => op(Request::RequestDeleteRange(self.delete())),
            _ if depth < 3 => op(Request::RequestTxn(self.txn(world, depth + 1))),
            _ => op(Request::RequestPut(self.put())),
        }
    }

    fn compare(&mut self, world: &World) -> Compare {
        let number = match self.random.u32(0..4) {
            0 => 0,
            1 => self.random.i64(1..5),
            2 => self.lease(),
            _ => self.random.i64(0..=world.revision),
        };
        let operand = match self.random.u32(0..6) {
            0 => None,
            1 => Some(TargetUnion::Version(number)),
            2 => Some(TargetUnion::CreateRevision(number)),
            3 => Some(TargetUnion::ModRevision(number)),
            4 => Some(TargetUnion::Lease(number)),
            _ => Some(TargetUnion::Value(self.value())),
        };
        // Mostly the target that fits the operand; the numbers just outside the enums too.
        let fitting = match &operand {
            Some(TargetUnion::CreateRevision(_)) => 1,
            Some(TargetUnion::ModRevision(_)) => 2,
            Some(TargetUnion::Value(_)) => 3,
            Some(TargetUnion::Lease(_)) => 4,
            Some(TargetUnion::Version(_)) | None => 0,
        };
        let target = if self.one_in(8) { self.random.i32(0..6) } else { fitting };
        let result = self.random.i32(0..4) + i32::from(self.one_in(50));
        let key = self.key();
        let range_end = if self.one_in(4) { self.range_end(&key) } else { Bytes::new() };
        Compare { result, target, key, range_end, target_union: operand }
    }

    /// Mostly a revision a little back, so that there is history to read.
    fn compact(&mut self, world: &World) -> CompactionRequest {
        let revision = match self.random.u32(0..6) {
            0 => world.revision + 1,
            1 => world.compacted,
            2 => world.revision,
            _ => world.revision - self.random.i64(0..300),
        };
        CompactionRequest { revision, physical: self.random.bool() }
    }

    fn truncated(&mut self, world: &World) -> Step {
        let (path, whole) = match self.random.u32(0..3) {
            0 => ("/etcdserverpb.KV/Range", self.range(world, true).encode_to_vec()),
            1 => ("/etcdserverpb.KV/Put", self.put().encode_to_vec()),
            _ => ("/etcdserverpb.KV/Txn", self.txn(world, 2).encode_to_vec()),
        };
        let end = self.random.usize(0..=whole.len());
        Step::Truncated { path, body: Bytes::from(whole).slice(..end) }
    }

    fn watch(&mut self, world: &World) -> Step {
        let key = self.key();
        let mut create = WatchCreateRequest { range_end: self.range_end(&key), key, ..WatchCreateRequest::default() };
        if self.random.bool() {
            create.start_revision = self.revision(world).min(world.revision + 50);
        }
        create.prev_kv = self.random.bool();
        create.fragment = self.one_in(4);
        create.filters = match self.random.u32(0..10) {
            0 => vec![0],
            1 => vec![1],
            2 => vec![self.random.i32(0..3), self.random.i32(0..3)],
            _ => Vec::new(),
        };
        if self.one_in(4) {
            create.watch_id = self.random.i64(-2..30);
        }
        Step::WatchCreate(create)
    }

    fn cancel(&mut self, world: &World) -> Step {
        if world.watches.is_empty() || self.one_in(10) {
            let stream = WatchKind::ALL[self.random.usize(0..WatchKind::ALL.len())];
            return Step::WatchCancel { stream, watch_id: 77_777 };
        }
        let (stream, watch_id) = world.watches[self.random.usize(0..world.watches.len())];
        Step::WatchCancel { stream, watch_id }
    }
}
