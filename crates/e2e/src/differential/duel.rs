//! Sends the steps to both servers and compares.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;

use anyhow::{Context, Result, bail, ensure};
use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use api::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, DefragmentRequest,
    DefragmentResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutResponse, RangeRequest, RangeResponse,
    StatusRequest, StatusResponse, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use api::v3electionpb::{CampaignRequest, CampaignResponse, LeaderResponse, ProclaimResponse, ResignResponse};
use api::v3lockpb::{LockRequest, LockResponse, UnlockResponse};
use bytes::Bytes;
use prost::Message;
use rustix::process::Signal;
use testkit::grpc::{Client, Code, RawRequest, Status, Stream};
use tokio::time::Instant;

use super::answer::{Answer, Identity, settle_ties};
use super::generator::{Generator, World};
use super::history::{Expected, History, Interest};
use super::step::{Step, WatchKind};
use super::watches::WatchStream;
use crate::refusal::LEASE_NOT_FOUND;
use crate::request::{get, watch_cancel, watch_create, watch_range};
use crate::{Difference, Member, Target};

/// How many steps before a difference are shown.
const SHOWN_STEPS: usize = 20;

/// After so many steps every watch is compared, whether something depends on it or not.
const STEPS_BETWEEN_WATCH_CHECKS: u64 = 200;

/// After so many steps both servers are started anew, killed and stopped by turns (etcd is only stopped).
const STEPS_BETWEEN_RESTARTS: u64 = 10_000;

/// By how many seconds the remaining times of a lease may differ that began at one moment, but for what a call takes.
const TTL_SLACK: i64 = 2;

/// A lease that has as little time as can be may run out before it is revoked.
const MAY_LAPSE: (Code, &str) = LEASE_NOT_FOUND;

/// One server's end: its connections and streams. Watches have a connection of their own, for they are not read all the
/// time, which Quorate holds against the calls beside them.
#[derive(Debug)]
struct Side {
    target: Target,
    client: Client,
    identity: Identity,
    /// The log index when the connection was made: what a server writes for itself when it starts is its own business.
    first_index: u64,
    /// By [`WatchKind`].
    streams: Vec<WatchStream>,
    /// Sees everything from the start.
    tap: WatchStream,
    keep_alive: Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse>,
}

impl Side {
    async fn new(member: &Member) -> Result<Side> {
        let client = member.connect().await?;
        let status = client.status(StatusRequest {}).await?;
        let identity = Identity::of(&status.header.context("an answer has a header")?);
        let watching = member.connect().await?;
        let mut streams = Vec::new();
        for _ in WatchKind::ALL {
            streams.push(WatchStream::open(&watching, identity).await?);
        }
        let mut tap = WatchStream::open(&watching, identity).await?;
        tap.send(&watch_create(WatchCreateRequest { prev_kv: true, ..watch_range("\0", "\0") }))?;
        ensure!(tap.answer().await?.created, "the watch of everything was refused");
        let keep_alive = client.lease_keep_alive().await?;
        let (target, first_index) = (member.target(), status.raft_applied_index);
        Ok(Side { target, client, identity, first_index, streams, tap, keep_alive })
    }

    async fn unary<Res: Answer>(&self, path: &'static str, request: &impl Message) -> Result<Res, Status> {
        let mut answer = self.client.unary::<Res>(path, request).await;
        if let Ok(answer) = &mut answer {
            self.identity.blank(answer.header());
        }
        answer
    }

    /// All messages of a RangeStream as one.
    async fn range_stream(&self, request: RangeRequest) -> Result<RangeResponse> {
        let mut stream = self.client.range_stream(request).await?;
        let mut whole = RangeResponse::default();
        while let Some(part) = stream.next().await? {
            let mut part = part.range_response.context("a message has a part of the answer")?;
            ensure!(whole.header.is_none(), "more comes after the header: {part:?}");
            whole.kvs.append(&mut part.kvs);
            whole = RangeResponse { kvs: whole.kvs, ..part };
        }
        self.identity.blank(whole.header());
        Ok(whole)
    }

    fn stream(&mut self, kind: WatchKind) -> &mut WatchStream {
        &mut self.streams[kind as usize]
    }

    async fn watch(&mut self, kind: WatchKind, message: &WatchRequest) -> Result<WatchResponse> {
        self.stream(kind).send(message)?;
        self.stream(kind).answer().await
    }

    async fn keep_alive(&mut self, id: i64) -> Result<LeaseKeepAliveResponse> {
        self.keep_alive.send(&LeaseKeepAliveRequest { id })?;
        let mut answer = self.keep_alive.next().await?.context("the keep-alive stream ended")?;
        self.identity.blank(answer.header());
        Ok(answer)
    }
}

/// A live watch, which both sides have under the same id.
#[derive(Debug)]
struct LiveWatch {
    kind: WatchKind,
    id: i64,
    interest: Interest,
    /// What it must see and was not compared yet.
    expected: VecDeque<Expected>,
}

/// Two servers, the reference first.
#[derive(Debug)]
pub struct Duel {
    sides: [Side; 2],
    world: World,
    history: History,
    watches: Vec<LiveWatch>,
    /// Leases that locks and elections were asked for with: etcd renews them then, or not, by chance.
    renewed_by_chance: BTreeSet<i64>,
    /// By how many seconds remaining times may differ: with a start they begin anew, on either side when it is ready.
    ttl_slack: i64,
}

/// Runs `requests` random steps from `seed` against two fresh members.
///
/// # Errors
/// At the first difference, with all that is needed to look into it.
pub async fn run_duel(members: &mut [Member; 2], seed: u64, requests: u64) -> Result<()> {
    let mut duel = Duel::new(members).await?;
    let mut generator = Generator::new(seed);
    let mut last = VecDeque::new();
    for number in 1..=requests {
        if number.is_multiple_of(STEPS_BETWEEN_RESTARTS) {
            let signal = if (number / STEPS_BETWEEN_RESTARTS).is_multiple_of(2) { Signal::TERM } else { Signal::KILL };
            duel.restart(members, signal).await.with_context(|| report(seed, number, &last))?;
        }
        let step = generator.step(&duel.world);
        if last.len() == SHOWN_STEPS {
            last.pop_front();
        }
        let mut outcome = duel.step(&step).await;
        last.push_back(step);
        if outcome.is_ok() && (number % STEPS_BETWEEN_WATCH_CHECKS == 0 || number == requests) {
            outcome = duel.check_watches().await;
        }
        outcome.with_context(|| report(seed, number, &last))?;
    }
    Ok(())
}

fn report(seed: u64, number: u64, last: &VecDeque<Step>) -> String {
    let steps = last.iter().map(|step| short(&format!("{step:?}"))).collect::<Vec<_>>().join("\n  ");
    format!("a difference with E2E_DIFF_SEED={seed} at request {number}; the last requests:\n  {steps}")
}

/// Long values say little.
fn short(text: &str) -> String {
    match text.char_indices().nth(1000) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Duel {
    pub async fn new(members: &[Member; 2]) -> Result<Duel> {
        let sides = Duel::connect(members).await?;
        let world = World { revision: 1, compacted: -1, ..World::default() };
        Ok(Duel {
            sides,
            world,
            history: History::default(),
            watches: Vec::new(),
            renewed_by_chance: BTreeSet::new(),
            ttl_slack: TTL_SLACK,
        })
    }

    async fn connect([reference, candidate]: &[Member; 2]) -> Result<[Side; 2]> {
        let (reference, candidate) = tokio::join!(Side::new(reference), Side::new(candidate));
        Ok([reference?, candidate?])
    }

    /// Ends both servers by `signal` and starts them again. Watches end with them, all else must be as it was.
    async fn restart(&mut self, members: &mut [Member; 2], signal: Signal) -> Result<()> {
        self.progress(WatchKind::Past).await?;
        let begun = Instant::now();
        let [reference, candidate] = members;
        let (first, second) = tokio::join!(restart(reference, signal), restart(candidate, signal));
        first.and(second)?;
        self.sides = Duel::connect(members).await?;
        self.watches.clear();
        self.world.watches.clear();
        // Which hashes of compactions are remembered is kept in memory.
        self.world.hashed.clear();
        self.renewed_by_chance.clear();
        self.ttl_slack = self.ttl_slack.max(TTL_SLACK + begun.elapsed().as_secs().cast_signed());
        Ok(())
    }

    /// Carries out one step on both sides.
    pub async fn step(&mut self, step: &Step) -> Result<()> {
        self.renewed_by_chance.extend(session_lease(step));
        match step {
            Step::Range(request) => self.range(request).await?,
            Step::Put(request) => self.write::<PutResponse>("/etcdserverpb.KV/Put", request).await?,
            Step::DeleteRange(request) => {
                self.write::<DeleteRangeResponse>("/etcdserverpb.KV/DeleteRange", request).await?;
            }
            Step::Txn(request) => self.write::<TxnResponse>("/etcdserverpb.KV/Txn", request).await?,
            Step::LeaseRevoke(request) => {
                self.write::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", request).await?;
            }
            Step::Compact(request) => self.compact(*request).await?,
            Step::LeaseGrant(request) => {
                self.unary::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", request, |_| ()).await?;
            }
            Step::LeaseOfTheServersChoice(ttl) => self.lease_of_the_servers_choice(*ttl).await?,
            Step::LeaseOfNoTime(request) => self.lease_of_no_time(request).await?,
            Step::LeaseTimeToLive(request) => self.time_to_live(request).await?,
            Step::LeaseLeases => {
                let settle = |answer: &mut LeaseLeasesResponse| answer.leases.sort_by_key(|lease| lease.id);
                self.unary("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {}, settle).await?;
            }
            Step::LeaseKeepAlive(id) => {
                let [reference, candidate] = &mut self.sides;
                let (reference, candidate) = tokio::join!(reference.keep_alive(*id), candidate.keep_alive(*id));
                same(&reference?, &candidate?)?;
                self.renewed_by_chance.remove(id);
            }
            Step::Alarm(request) => self.alarm(request).await?,
            Step::Status => self.status().await?,
            Step::HashKv(request) => {
                // See Difference::NewerFields.
                let settle = |answer: &mut HashKvResponse| answer.hash_revision = 0;
                self.unary("/etcdserverpb.Maintenance/HashKV", request, settle).await?;
            }
            Step::Defragment => {
                let request = DefragmentRequest {};
                self.unary::<DefragmentResponse>("/etcdserverpb.Maintenance/Defragment", &request, |_| ()).await?;
            }
            Step::Lock(LockRequest { name, lease }) if self.would_wait(name, *lease).await? => {}
            Step::Lock(request) => self.call::<LockResponse>("/v3lockpb.Lock/Lock", request).await.map(drop)?,
            Step::Unlock(request) => self.call::<UnlockResponse>("/v3lockpb.Lock/Unlock", request).await.map(drop)?,
            Step::Campaign(CampaignRequest { name, lease, .. }) if self.would_wait(name, *lease).await? => {}
            Step::Campaign(request) => {
                let answer = self.call::<CampaignResponse>("/v3electionpb.Election/Campaign", request).await?;
                self.world.leaders.extend(answer.and_then(|answer| answer.leader));
            }
            Step::Proclaim(request) => {
                self.call::<ProclaimResponse>("/v3electionpb.Election/Proclaim", request).await?;
            }
            Step::Leader(request) => {
                self.unary::<LeaderResponse>("/v3electionpb.Election/Leader", request, |_| ()).await?;
            }
            Step::Resign(request) => {
                self.call::<ResignResponse>("/v3electionpb.Election/Resign", request).await?;
            }
            Step::Damaged { path, body } => self.damaged(path, body).await?,
            Step::WatchCreate(create) => self.create_watch(create).await?,
            Step::WatchCancel { stream, watch_id } => self.cancel_watch(*stream, *watch_id).await?,
            Step::WatchProgress => self.progress(WatchKind::Live).await?,
        }
        Ok(())
    }

    /// Calls both and compares; returns the answer if it was one.
    async fn unary<Res: Answer>(
        &mut self,
        path: &'static str,
        request: &impl Message,
        settle: impl Fn(&mut Res),
    ) -> Result<Option<Res>> {
        let (mut reference, mut candidate) = self.both::<Res>(path, request).await;
        if let (Ok(reference), Ok(candidate)) = (&mut reference, &mut candidate) {
            settle(reference);
            settle(candidate);
        }
        same(&reference, &candidate)?;
        alive(&reference)?;
        Ok(reference.ok())
    }

    async fn both<Res: Answer>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> (Result<Res, Status>, Result<Res, Status>) {
        let [reference, candidate] = &self.sides;
        tokio::join!(reference.unary::<Res>(path, request), candidate.unary::<Res>(path, request))
    }

    /// As `unary`, for what may make a new revision: waits until its events have come.
    async fn write<Res: Answer>(&mut self, path: &'static str, request: &impl Message) -> Result<()> {
        let answer = self.unary::<Res>(path, request, |_| ()).await?;
        let revision = answer.and_then(|mut answer| answer.header().map(|header| header.revision));
        match revision {
            Some(revision) if revision > self.world.revision => self.advance(revision).await,
            _ => Ok(()),
        }
    }

    /// As `write`, for what makes any number of revisions and may not say which.
    async fn call<Res: Answer>(&mut self, path: &'static str, request: &impl Message) -> Result<Option<Res>> {
        let answer = self.unary::<Res>(path, request, |_| ()).await?;
        self.catch_up().await?;
        Ok(answer)
    }

    /// Takes in the events of revisions nobody was told of.
    async fn catch_up(&mut self) -> Result<()> {
        let now = self.unary::<RangeResponse>("/etcdserverpb.KV/Range", &get("a"), |_| ()).await?;
        let revision = crate::revision(&now.context("a read of one key")?.header);
        while self.world.revision < revision {
            self.advance(self.world.revision + 1).await?;
        }
        Ok(())
    }

    /// Takes in the events of the next revision.
    async fn advance(&mut self, revision: i64) -> Result<()> {
        ensure!(revision == self.world.revision + 1, "the revision went from {} to {revision}", self.world.revision);
        let [reference, candidate] = &mut self.sides;
        let (reference, candidate) =
            tokio::join!(reference.tap.events_of(0, revision), candidate.tap.events_of(0, revision));
        let (reference, candidate) = (reference?, candidate?);
        same(&reference, &candidate).context("the events of everything")?;
        for event in reference {
            for watch in &mut self.watches {
                watch.expected.extend(watch.interest.sees(&event));
            }
            self.history.push(event);
        }
        self.world.revision = revision;
        Ok(())
    }

    async fn lease_of_the_servers_choice(&mut self, ttl: i64) -> Result<()> {
        let (grant, revoke) = ("/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Lease/LeaseRevoke");
        let (reference, candidate) = self.both::<LeaseGrantResponse>(grant, &LeaseGrantRequest { id: 0, ttl }).await;
        let (Ok(reference), Ok(candidate)) = (&reference, &candidate) else { return same(&reference, &candidate) };
        ensure!(reference.id > 0 && candidate.id > 0, "ids of the server's choice: {reference:?}, {candidate:?}");
        same(&reference.ttl, &candidate.ttl)?;
        let [first, second] = &self.sides;
        let (reference, candidate) = (LeaseRevokeRequest { id: reference.id }, LeaseRevokeRequest { id: candidate.id });
        let reference = first.unary::<LeaseRevokeResponse>(revoke, &reference).await;
        let candidate = second.unary::<LeaseRevokeResponse>(revoke, &candidate).await;
        same(&reference, &candidate)
    }

    async fn lease_of_no_time(&mut self, request: &LeaseGrantRequest) -> Result<()> {
        self.unary::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", request, |_| ()).await?;
        let revoke = LeaseRevokeRequest { id: request.id };
        let (reference, candidate) = self.both::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
        let may_lapse = Status::new(MAY_LAPSE.0, MAY_LAPSE.1);
        if [&reference, &candidate].iter().any(|answer| answer.as_ref().err() == Some(&may_lapse)) {
            return Ok(());
        }
        same(&reference, &candidate)
    }

    /// The same stream of messages says what the answer says; etcd 3.5 does not have it.
    async fn range(&mut self, request: &RangeRequest) -> Result<()> {
        let settle = |answer: &mut RangeResponse| settle_ties(request, answer);
        let answer = self.unary("/etcdserverpb.KV/Range", request, settle).await?;
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let by_key = request.sort_order() != SortOrder::Descend && request.sort_target() == SortTarget::Key;
        let [_, candidate] = &self.sides;
        if let Some(answer) = answer
            && Difference::NewerFields.shows(candidate.target)
            && by_key
            && filters == [0; 4]
        {
            let streamed = candidate.range_stream(request.clone()).await?;
            same(&answer, &streamed).context("a stream of the same range")?;
        }
        Ok(())
    }

    async fn compact(&mut self, request: CompactionRequest) -> Result<()> {
        // A watch that has yet to catch up might be cancelled by it, or not.
        self.progress(WatchKind::Past).await?;
        let answer = self.unary::<CompactionResponse>("/etcdserverpb.KV/Compact", &request, |_| ()).await?;
        if answer.is_some() {
            self.world.compacted = request.revision;
            // Each removal begins after the last has ended.
            if request.physical {
                self.world.hashed.push(request.revision);
            }
        }
        Ok(())
    }

    async fn alarm(&mut self, request: &AlarmRequest) -> Result<()> {
        let answer = self.unary::<AlarmResponse>("/etcdserverpb.Maintenance/Alarm", request, |_| ()).await?;
        if answer.is_none() {
            return Ok(());
        }
        match request.action() {
            AlarmAction::Get => {}
            AlarmAction::Activate if request.alarm() == AlarmType::None => {}
            AlarmAction::Activate => self.world.alarm = Some(*request),
            AlarmAction::Deactivate => {
                let named =
                    |raised: &AlarmRequest| (raised.member_id, raised.alarm) == (request.member_id, request.alarm);
                self.world.alarm = self.world.alarm.filter(|raised| !named(raised));
            }
        }
        Ok(())
    }

    /// What goes through the log is the same on both sides.
    async fn status(&mut self) -> Result<()> {
        let (reference, candidate) =
            self.both::<StatusResponse>("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await;
        let said = |status: StatusResponse, side: &Side| {
            (status.header, status.raft_applied_index - side.first_index, status.errors, status.is_learner)
        };
        let [first, second] = &self.sides;
        same(&said(reference?, first), &said(candidate?, second))
    }

    /// Whether somebody else stands in this line in front of the lease.
    async fn would_wait(&self, name: &Bytes, lease: i64) -> Result<bool> {
        let prefix = [name, &b"/"[..]].concat();
        let request = RangeRequest {
            range_end: [name, &b"0"[..]].concat().into(),
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..get(&prefix)
        };
        let first = self.sides[0].client.range(request).await?.kvs.pop();
        let sign = if lease < 0 { "-" } else { "" };
        let own = [&prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat();
        Ok(first.is_some_and(|first| first.key != own))
    }

    async fn time_to_live(&mut self, request: &LeaseTimeToLiveRequest) -> Result<()> {
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let (mut reference, mut candidate) = self.both::<LeaseTimeToLiveResponse>(path, request).await;
        if let (Ok(reference), Ok(candidate)) = (&mut reference, &mut candidate) {
            reference.keys.sort();
            candidate.keys.sort();
            let slack = if self.renewed_by_chance.contains(&request.id) { i64::MAX } else { self.ttl_slack };
            if (reference.ttl - candidate.ttl).abs() <= slack && reference.ttl >= 0 && candidate.ttl >= 0 {
                candidate.ttl = reference.ttl;
            }
        }
        same(&reference, &candidate)
    }

    /// Only the code is compared: the text ends with what the decoder says.
    async fn damaged(&mut self, path: &'static str, body: &Bytes) -> Result<()> {
        let mut framed = vec![0];
        framed.extend(u32::try_from(body.len())?.to_be_bytes());
        framed.extend_from_slice(body);
        let request = RawRequest::grpc(path, framed);
        let [reference, candidate] = &self.sides;
        let (reference, candidate) =
            tokio::join!(reference.client.raw(request.clone()), candidate.client.raw(request.clone()));
        let code = |answer: Result<testkit::grpc::RawResponse, Status>| match answer?.outcome() {
            Some(Ok(())) => Ok(Code::Ok),
            Some(Err(status)) => Ok(status.code),
            None => bail!("an answer without a status"),
        };
        let code = (code(reference)?, code(candidate)?);
        same(&code.0, &code.1)?;
        // It may have been a whole request, and a write.
        self.catch_up().await
    }

    async fn create_watch(&mut self, create: &WatchCreateRequest) -> Result<()> {
        let kind = WatchKind::of(create.start_revision, self.world.revision, self.world.compacted);
        let created = self.watch_answer(kind, &watch_create(create.clone())).await?;
        ensure!(created.created, "a request to create is answered by created: {created:?}");
        if created.canceled {
            return Ok(());
        }
        if kind == WatchKind::Refused {
            let [reference, candidate] = &mut self.sides;
            let (reference, candidate) = tokio::join!(reference.stream(kind).answer(), candidate.stream(kind).answer());
            let cancelled = reference?;
            same(&cancelled, &candidate?)?;
            ensure!(cancelled.canceled, "a compacted start is cancelled: {cancelled:?}");
            return Ok(());
        }
        let interest = Interest::new(create.clone(), self.world.revision, self.world.compacted);
        let past = self.history.from(interest.start());
        let expected = past.iter().filter_map(|event| interest.sees(event)).collect();
        self.watches.push(LiveWatch { kind, id: created.watch_id, interest, expected });
        self.world.watches.push((kind, created.watch_id));
        Ok(())
    }

    async fn cancel_watch(&mut self, kind: WatchKind, watch_id: i64) -> Result<()> {
        let message = watch_cancel(watch_id);
        let Some(at) = self.watches.iter().position(|watch| (watch.kind, watch.id) == (kind, watch_id)) else {
            for side in &mut self.sides {
                side.stream(kind).send(&message)?;
            }
            return Ok(());
        };
        // Events that are under way when the cancel arrives may be dropped, or not.
        self.check_watches().await?;
        let cancelled = self.watch_answer(kind, &message).await?;
        ensure!(cancelled.canceled && cancelled.watch_id == watch_id, "not the answer to a cancel: {cancelled:?}");
        for side in &mut self.sides {
            side.stream(kind).forget(watch_id);
        }
        self.watches.remove(at);
        self.world.watches.retain(|&live| live != (kind, watch_id));
        Ok(())
    }

    /// Waits until the watches of this kind are in step.
    async fn progress(&mut self, kind: WatchKind) -> Result<()> {
        if self.watches.iter().any(|watch| watch.kind == kind) {
            let [reference, candidate] = &mut self.sides;
            let (reference, candidate) =
                tokio::join!(reference.stream(kind).progress(), candidate.stream(kind).progress());
            let reference = reference?;
            same(&reference, &candidate?)?;
            let revision = crate::revision(&reference.header);
            ensure!(revision == self.world.revision, "progress to {revision} at {}", self.world.revision);
        }
        self.check_watches().await
    }

    /// Sends `message` on both sides and compares the answers.
    async fn watch_answer(&mut self, kind: WatchKind, message: &WatchRequest) -> Result<WatchResponse> {
        let [reference, candidate] = &mut self.sides;
        let (reference, candidate) = tokio::join!(reference.watch(kind, message), candidate.watch(kind, message));
        let reference = reference?;
        same(&reference, &candidate?)?;
        Ok(reference)
    }

    /// Waits until every watch has seen all it must, and checks that it saw just that.
    async fn check_watches(&mut self) -> Result<()> {
        for watch in &mut self.watches {
            for expected in watch.expected.drain(..) {
                for (side, name) in self.sides.iter_mut().zip(["reference", "candidate"]) {
                    let event = side.stream(watch.kind).event(watch.id).await;
                    let event =
                        event.with_context(|| format!("{name}, {:?} watch {}: {expected:?}", watch.kind, watch.id))?;
                    ensure!(
                        expected.is(&event),
                        "{name}, {:?} watch {} of {:?}:\n expected {}\n got {}",
                        watch.kind,
                        watch.id,
                        watch.interest,
                        short(&format!("{expected:?}")),
                        short(&format!("{event:?}")),
                    );
                }
            }
        }
        for (side, name) in self.sides.iter().zip(["reference", "candidate"]) {
            for (stream, kind) in side.streams.iter().zip(WatchKind::ALL) {
                if let Some((id, event)) = stream.unexpected() {
                    bail!("{name}, {kind:?} watch {id}: nobody expected {event:?}");
                }
            }
        }
        Ok(())
    }
}

/// The lease that a lock or an election was asked for with.
fn session_lease(step: &Step) -> Option<i64> {
    match step {
        Step::Lock(request) => Some(request.lease),
        Step::Campaign(request) => Some(request.lease),
        Step::Proclaim(request) => request.leader.as_ref().map(|leader| leader.lease),
        Step::Resign(request) => request.leader.as_ref().map(|leader| leader.lease),
        _ => None,
    }
}

/// Etcd is always stopped in order: one that was killed may come back with a revision more than it had answered (of two
/// that get the requests of seed 1 and are killed after 10,000 of them, mostly one does), and then is no reference.
async fn restart(member: &mut Member, signal: Signal) -> Result<()> {
    match (member.target(), signal) {
        (Target::Quorate, Signal::KILL) => member.kill()?,
        _ => drop(member.stop().await?),
    }
    member.restart().await
}

/// Fails if the two are not equal.
fn same<T: PartialEq + Debug>(reference: &T, candidate: &T) -> Result<()> {
    if reference == candidate {
        return Ok(());
    }
    let [reference, candidate] = [reference, candidate].map(|answer| format!("{answer:?}"));
    let common = reference.bytes().zip(candidate.bytes()).take_while(|(a, b)| a == b).count();
    let [reference, candidate] = [reference, candidate].map(|answer| around(&answer, common));
    bail!("the answers differ\n reference: {reference}\n candidate: {candidate}")
}

/// A piece of `text` from a little before `at`.
fn around(text: &str, at: usize) -> String {
    let from = (at.saturating_sub(300)..=at).find(|&from| text.is_char_boundary(from)).unwrap_or(0);
    let dots = if from > 0 { "..." } else { "" };
    format!("{dots}{}", short(&text[from..]))
}

/// Fails if the servers agree in that they are gone.
fn alive<T>(answer: &Result<T, Status>) -> Result<()> {
    match answer {
        Err(status) if status.is_transport() => bail!("both connections broke: {status}"),
        _ => Ok(()),
    }
}
