//! Makes the random requests.

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use api::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use api::v3lockpb::{LockRequest, UnlockRequest};
use bytes::Bytes;
use prost::Message;

use super::step::{Step, WatchKind};
use crate::request::{TargetUnion, op};

/// What the generator must know of the servers to ask sensible things.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub revision: i64,
    pub compacted: i64,
    /// Compacted revisions whose removal is known to be over, so that their hashes are.
    pub hashed: Vec<i64>,
    /// Live watches: stream and id.
    pub watches: Vec<(WatchKind, i64)>,
    /// The alarm that is raised; one at a time.
    pub alarm: Option<AlarmRequest>,
    /// What candidates were told, the newest last.
    pub leaders: Vec<LeaderKey>,
}

/// A source of steps; equal seeds and worlds give equal steps.
#[derive(Debug)]
pub struct Generator {
    random: fastrand::Rng,
}

/// Few keys, so that requests meet: twelve that are sorted by anything, and more that ranges run over.
const NARROW: &[u8; 12] = b"abcdefghijkl";
const WIDE: usize = 300;

/// Bytes at the edges of what a byte can be; keys of these sort before and after all others.
const EDGES: [u8; 5] = [0x00, 0x01, 0x7f, 0xfe, 0xff];

/// Locks and elections, two of which share a line: the keys of the second lie under the prefix of the first.
const NAMES: [&str; 4] = ["z", "z/y", "y", ""];

/// How deep transactions nest.
const DEPTH_MAX: u32 = 3;

/// So many watches at most are live at once.
const WATCHES_MAX: usize = 40;

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: fastrand::Rng::with_seed(seed) }
    }

    /// The next step.
    pub fn step(&mut self, world: &World) -> Step {
        if let Some(alarm) = world.alarm
            && self.one_in(15)
        {
            return Step::Alarm(AlarmRequest { action: AlarmAction::Deactivate.into(), ..alarm });
        }
        match self.random.u32(0..1000) {
            0..280 => Step::Put(self.put()),
            280..500 => Step::Range(self.range(world, true)),
            500..580 => Step::DeleteRange(self.delete()),
            580..795 => Step::Txn(self.txn(world, first_depth(world))),
            795..798 => Step::Compact(self.compact(world)),
            798..800 => self.rare(world),
            800..820 => self.lock_or_election(world),
            820..840 => Step::LeaseGrant(LeaseGrantRequest { id: self.nonzero_lease(), ttl: self.ttl() }),
            840..843 => Step::LeaseOfTheServersChoice(self.ttl()),
            843..845 => {
                Step::LeaseOfNoTime(LeaseGrantRequest { id: 99, ttl: [0, 1, -1, i64::MIN][self.random.usize(0..4)] })
            }
            845..855 => Step::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            855..869 => Step::LeaseTimeToLive(LeaseTimeToLiveRequest { id: self.lease(), keys: self.random.bool() }),
            869..873 => Step::LeaseLeases,
            873..884 => Step::LeaseKeepAlive(self.lease()),
            884..888 => self.alarm(world),
            888..890 => Step::Status,
            890..897 => Step::HashKv(HashKvRequest { revision: self.hash_revision(world) }),
            897..903 => self.damaged(world),
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

    /// One to three bytes, all of them edges but for an "a" now and then.
    fn edge_key(&mut self) -> Bytes {
        let mut key = vec![EDGES[self.random.usize(0..EDGES.len())]];
        for _ in 0..self.random.usize(0..3) {
            let at = self.random.usize(0..=EDGES.len());
            key.push(EDGES.get(at).copied().unwrap_or(b'a'));
        }
        key.into()
    }

    fn key(&mut self) -> Bytes {
        match self.random.u32(0..100) {
            0 => Bytes::new(),
            1..8 => self.edge_key(),
            8 => self.name(),
            9..60 => self.narrow_key(),
            _ => self.wide_key(),
        }
    }

    /// A `range_end` for `key`: none, "to the end", or another key before or behind it.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.u32(0..24) {
            0..8 => Bytes::new(),
            8 => Bytes::from_static(b"\0"),
            9 => key.clone(),
            10..13 => self.wide_key(),
            13..15 => Bytes::from_static(b"w"),
            15..17 => self.edge_key(),
            17 => [key, &b"\0"[..]].concat().into(),
            18 => [key, &b"\xff"[..]].concat().into(),
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

    /// The hash at a compaction's own revision depends on whether its removal has run, so those are asked for that are
    /// known to have.
    fn hash_revision(&mut self, world: &World) -> i64 {
        match self.random.u32(0..8) {
            0 => world.revision + 1,
            1 => world.revision,
            2 => (world.compacted + 1).min(world.revision),
            3..6 if !world.hashed.is_empty() => world.hashed[self.random.usize(0..world.hashed.len())],
            _ => 0,
        }
    }

    /// A bound that cuts through what there is, or far from it.
    fn bound(&mut self, world: &World) -> i64 {
        match self.random.u32(0..12) {
            0 => i64::MIN,
            1 => i64::MAX,
            _ => self.random.i64(-1..=world.revision + 1),
        }
    }

    /// `whole`: a request of its own, whose ties the comparison allows for; inside a transaction only what is sorted the
    /// same way everywhere.
    fn range(&mut self, world: &World, whole: bool) -> RangeRequest {
        let mut request = RangeRequest { revision: self.revision(world), ..RangeRequest::default() };
        request.key = self.key();
        request.range_end = self.range_end(&request.key);
        if self.one_in(3) {
            request.limit = if self.one_in(10) {
                [i64::MAX, i64::MIN, 1000][self.random.usize(0..3)]
            } else {
                self.random.i64(-1..8)
            };
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
            request.min_mod_revision = self.bound(world);
        }
        if self.one_in(6) {
            request.max_mod_revision = self.bound(world);
        }
        if self.one_in(10) {
            request.min_create_revision = self.bound(world);
        }
        if self.one_in(10) {
            request.max_create_revision = self.bound(world);
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
            _ if depth < DEPTH_MAX => op(Request::RequestTxn(self.txn(world, depth + 1))),
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

    /// A message that is not what its client meant.
    fn damaged(&mut self, world: &World) -> Step {
        let (path, mut body) = match self.random.u32(0..4) {
            0 => ("/etcdserverpb.KV/Range", self.range(world, true).encode_to_vec()),
            1 => ("/etcdserverpb.KV/DeleteRange", self.delete().encode_to_vec()),
            2 => ("/etcdserverpb.KV/Put", self.put().encode_to_vec()),
            _ => ("/etcdserverpb.KV/Txn", self.txn(world, 2.max(first_depth(world))).encode_to_vec()),
        };
        // Changed bytes could ask for a sort order that etcd does not survive.
        let may_change = path.ends_with("Put") || path.ends_with("DeleteRange");
        if may_change && !body.is_empty() && self.random.bool() {
            for _ in 0..self.random.usize(1..4) {
                // Where tags and lengths are, mostly.
                let at = self.random.usize(0..body.len().min(30));
                body[at] ^= 1 << self.random.u32(0..8);
            }
        } else {
            body.truncate(self.random.usize(0..=body.len()));
        }
        Step::Damaged { path, body: body.into() }
    }

    /// What costs too much, or disturbs too much, to be done often.
    fn rare(&mut self, world: &World) -> Step {
        match self.random.u32(0..8) {
            0 => Step::Defragment,
            1..3 => Step::Txn(self.large_txn()),
            _ => Step::Txn(self.long_txn(world)),
        }
    }

    /// Events larger than a message, together with the pairs before.
    fn large_txn(&mut self) -> TxnRequest {
        let fill = self.random.u8(..);
        let put = |key: &u8| PutRequest {
            key: vec![*key].into(),
            value: vec![fill; 110_000].into(),
            ..PutRequest::default()
        };
        let success = NARROW.iter().map(|key| op(Request::RequestPut(put(key)))).collect();
        TxnRequest { success, ..TxnRequest::default() }
    }

    /// As many operations as are allowed, and a few more.
    fn long_txn(&mut self, world: &World) -> TxnRequest {
        let count = self.random.usize(120..131);
        let shift = self.random.usize(0..WIDE);
        let mut make = |number: usize| match self.random.u32(0..4) {
            0 => op(Request::RequestRange(self.range(world, false))),
            _ => {
                let key = format!("w{:03}", (number + shift) % WIDE).into();
                op(Request::RequestPut(PutRequest { key, value: self.value(), ..PutRequest::default() }))
            }
        };
        TxnRequest { success: (0..count).map(&mut make).collect(), ..TxnRequest::default() }
    }

    /// Raises an alarm, if none is raised, or lists them.
    fn alarm(&mut self, world: &World) -> Step {
        let mut request = AlarmRequest {
            action: AlarmAction::Get.into(),
            member_id: self.random.u64(0..3),
            alarm: self.random.i32(0..=AlarmType::Corrupt.into()),
        };
        if world.alarm.is_none() && self.random.bool() {
            request.action = AlarmAction::Activate.into();
        } else if self.one_in(4) {
            request.action = AlarmAction::Deactivate.into();
        }
        Step::Alarm(request)
    }

    fn name(&mut self) -> Bytes {
        Bytes::from_static(NAMES[self.random.usize(0..NAMES.len())].as_bytes())
    }

    fn lock_or_election(&mut self, world: &World) -> Step {
        let (name, lease, value) = (self.name(), self.nonzero_lease(), self.value());
        match self.random.u32(0..10) {
            0..2 => Step::Lock(LockRequest { name, lease }),
            2 => Step::Unlock(UnlockRequest { key: self.lock_key(&name) }),
            3..6 => Step::Campaign(CampaignRequest { name, lease, value }),
            6 => Step::Leader(LeaderRequest { name }),
            7..9 => Step::Proclaim(ProclaimRequest { leader: self.leader_key(world), value }),
            _ => Step::Resign(ResignRequest { leader: self.leader_key(world) }),
        }
    }

    fn lock_key(&mut self, name: &Bytes) -> Bytes {
        match self.one_in(10) {
            true => Bytes::new(),
            false => [&name[..], format!("/{:x}", self.random.u32(1..8)).as_bytes()].concat().into(),
        }
    }

    /// One that some candidate was given, or what somebody might make of it.
    fn leader_key(&mut self, world: &World) -> Option<LeaderKey> {
        let recent = world.leaders.len().saturating_sub(4);
        if recent == world.leaders.len() || self.one_in(10) {
            return None;
        }
        let mut leader = world.leaders[self.random.usize(recent..world.leaders.len())].clone();
        match self.random.u32(0..12) {
            0 => leader.rev -= 1,
            1 => leader.lease = self.nonzero_lease(),
            2 => leader.key = self.key(),
            3 => leader.name = self.name(),
            _ => {}
        }
        Some(leader)
    }

    fn watch(&mut self, world: &World) -> Step {
        let key = self.key();
        let mut create = WatchCreateRequest { range_end: self.range_end(&key), key, ..WatchCreateRequest::default() };
        if self.random.bool() {
            create.start_revision = self.revision(world);
        }
        create.prev_kv = self.random.bool();
        create.progress_notify = self.one_in(8);
        create.fragment = self.one_in(4);
        create.filters = match self.random.u32(0..10) {
            0 => vec![0],
            1 => vec![1],
            2 => vec![self.random.i32(0..3), self.random.i32(0..3)],
            _ => Vec::new(),
        };
        if self.one_in(4) {
            create.watch_id =
                if self.one_in(20) { [i64::MIN, i64::MAX][self.random.usize(0..2)] } else { self.random.i64(-2..30) };
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

/// How deep transactions begin: while there is no space etcd lets puts pass that are nested in others.
fn first_depth(world: &World) -> u32 {
    if world.alarm.is_some() { DEPTH_MAX } else { 0 }
}
