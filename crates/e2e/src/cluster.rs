//! A cluster of several members, each a process of its own, and what can be done to it: signals, wiped disks, cut wires,
//! members added and taken away.
//!
//! Members are named by their seat, a number that stays the same however often the process is started again. A seat that
//! is not [`Seat::running`] is left out where "all members" are asked.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::etcdserverpb::{
    HashKvRequest, HashKvResponse, MemberAddRequest, MemberListRequest, MemberRemoveRequest, MoveLeaderRequest,
    StatusRequest, StatusResponse,
};
use tempfile::TempDir;
use testkit::grpc::{Client, Status};

use crate::{Target, found_within, holds_within, refusal, request, within};

mod alter;
mod links;
mod namespaces;
mod seat;
mod wiring;

pub use seat::Seat;
pub use wiring::Wiring;

use wiring::Network;

/// How long a cluster may take from start, or from the end of a fault, until all members serve under one leader.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(40);

/// How long one call may take that a member in good health answers.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Flags with which whoever misses [`missed_bytes`] in a few hundred entries gets a snapshot in place of them.
pub fn early_snapshots(target: Target) -> Vec<(&'static str, &'static str)> {
    let mut flags = vec![("snapshot-count", "100"), ("experimental-snapshot-catchup-entries", "100")];
    if target == Target::Quorate {
        // It counts bytes where etcd counts entries: the segments of its log.
        flags.extend([("quorate-log-segment-bytes", "65536"), ("max-request-bytes", "200000")]);
    }
    flags
}

/// See [`early_snapshots`].
pub fn missed_bytes(target: Target) -> usize {
    match target {
        Target::Etcd => 1 << 20,
        Target::Quorate => 30 << 20,
    }
}

/// Members that run, and the network between them.
#[derive(Debug)]
pub struct Cluster {
    target: Target,
    flags: Vec<(String, String)>,
    seats: Vec<Seat>,
    network: Network,
    /// Last, so that it outlives the processes.
    dir: TempDir,
}

impl Cluster {
    /// Starts `members` fresh members that know one another and waits until all serve.
    pub async fn start(target: Target, members: usize) -> Result<Cluster> {
        Cluster::start_with(target, members, Wiring::Direct, &[]).await
    }

    /// As [`Cluster::start`], with a network that can be disturbed and further flags, which win over the harness' own.
    pub async fn start_with(target: Target, members: usize, wiring: Wiring, flags: &[(&str, &str)]) -> Result<Cluster> {
        let mut cluster = Cluster::prepare(target, members, wiring, flags)?;
        cluster.spawn_all()?;
        cluster.settled().await.context("the cluster does not come up")?;
        Ok(cluster)
    }

    /// Seats without processes yet.
    pub fn prepare(target: Target, members: usize, wiring: Wiring, flags: &[(&str, &str)]) -> Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("quorate-e2e-").tempdir()?;
        let flags = flags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut cluster = Cluster { target, flags, seats: Vec::new(), network: Network::new(wiring)?, dir };
        for _ in 0..members {
            cluster.take_seat()?;
        }
        let everyone = cluster.initial_cluster(0..members);
        for seat in &mut cluster.seats {
            seat.set_flags(&[("initial-cluster", &everyone)]);
        }
        Ok(cluster)
    }

    pub fn target(&self) -> Target {
        self.target
    }

    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    pub fn seat(&mut self, seat: usize) -> &mut Seat {
        &mut self.seats[seat]
    }

    /// The seats whose processes run, frozen ones among them.
    pub fn running(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|&seat| self.seats[seat].running()).collect()
    }

    /// Starts every process that does not run.
    pub fn spawn_all(&mut self) -> Result<()> {
        for seat in 0..self.seats.len() {
            if !self.seats[seat].running() {
                self.spawn(seat)?;
            }
        }
        Ok(())
    }

    /// Starts a member's process, without waiting for anything.
    pub fn spawn(&mut self, seat: usize) -> Result<()> {
        self.seats[seat].spawn(self.network.front(seat))?;
        let process = self.seats[seat].process().context("it was just started")?.id();
        self.network.belongs(process, seat);
        Ok(())
    }

    /// Starts a member and waits until it serves.
    pub async fn restart(&mut self, seat: usize) -> Result<Client> {
        self.seats[seat].kill()?;
        self.spawn(seat)?;
        self.seats[seat].ready().await
    }

    /// A connection to a member.
    pub async fn client(&self, seat: usize) -> Result<Client> {
        Ok(within(CALL_LIMIT, Client::connect(self.seats[seat].address())).await??)
    }

    /// Waits until every running member serves linearizable reads, all know all by name, and follow one leader.
    pub async fn settled(&mut self) -> Result<()> {
        for seat in self.running() {
            self.seats[seat].ready().await.with_context(|| format!("member {seat}"))?;
        }
        holds_within(SETTLE_LIMIT, async || Ok(self.names_are_known().await.unwrap_or(false)))
            .await
            .context("some members are not known to all")?;
        self.leader().await.map(drop)
    }

    async fn names_are_known(&self) -> Result<bool> {
        for seat in self.running() {
            let client = self.client(seat).await?;
            let list = within(CALL_LIMIT, client.member_list(MemberListRequest { linearizable: false })).await??;
            let started = list.members.iter().filter(|member| !member.name.is_empty()).count();
            if started < self.running().len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub async fn status(&self, seat: usize) -> Result<StatusResponse> {
        let client = self.client(seat).await?;
        Ok(within(CALL_LIMIT, client.status(StatusRequest {})).await??)
    }

    /// A member's id, as it tells it.
    pub async fn id(&self, seat: usize) -> Result<u64> {
        Ok(self.status(seat).await?.header.context("a status has a header")?.member_id)
    }

    /// The seat that all running members name as their leader; waits until they do.
    pub async fn leader(&self) -> Result<usize> {
        self.leader_among(&self.running()).await
    }

    /// The seat, one of `seats`, that all of `seats` name as their leader; waits until they do.
    pub async fn leader_among(&self, seats: &[usize]) -> Result<usize> {
        let found = found_within(SETTLE_LIMIT, async || Ok(self.agreed_leader(seats).await.unwrap_or(None))).await;
        found.context("the members do not agree on a leader")
    }

    async fn agreed_leader(&self, seats: &[usize]) -> Result<Option<usize>> {
        let mut statuses = Vec::new();
        for &seat in seats {
            let status = within(Duration::from_secs(2), self.status(seat)).await??;
            statuses.push((seat, status.header.context("a status has a header")?, status.leader));
        }
        let Some((_, first, leader)) = statuses.first() else { return Ok(None) };
        let agreed = statuses.iter().all(|(_, header, named)| named == leader && header.raft_term == first.raft_term);
        let seat = statuses.iter().find(|(_, header, _)| header.member_id == *leader).map(|&(seat, ..)| seat);
        Ok(seat.filter(|_| agreed))
    }

    /// A running member that does not lead.
    pub async fn follower(&self) -> Result<usize> {
        let leader = self.leader().await?;
        self.running().into_iter().find(|&seat| seat != leader).context("there is only the leader")
    }

    /// Makes `seat` the leader and waits until all follow it.
    pub async fn lead(&self, seat: usize) -> Result<()> {
        let target_id = self.id(seat).await?;
        holds_within(SETTLE_LIMIT, async || {
            let leader = self.leader().await?;
            if leader != seat {
                let request = MoveLeaderRequest { target_id };
                // It may have lost its office in between: asked again then.
                within(CALL_LIMIT, self.client(leader).await?.move_leader(request)).await?.ok();
            }
            Ok(leader == seat)
        })
        .await
        .context("the leader does not move")
    }

    /// Asks through member `via` that a member is added, and prepares its seat; its process does not run yet. Waits as
    /// long as the cluster is too young for that: etcd wants connections that are five seconds old.
    pub async fn add(&mut self, via: usize, learner: bool) -> Result<usize> {
        let seat = self.take_seat()?;
        let request = MemberAddRequest { peer_ur_ls: vec![self.seats[seat].peer_url()], is_learner: learner };
        let client = self.client(via).await?;
        reconfigure(async || client.member_add(request.clone()).await.map(drop), refusal::PEER_URL_EXISTS).await?;
        let url = self.seats[seat].peer_url();
        // Not linearizable: with the second member of two not started there is no quorum.
        let (id, listed) = found_within(CALL_LIMIT, async || {
            let list = MemberListRequest { linearizable: false };
            let listed = within(CALL_LIMIT, client.member_list(list)).await??.members;
            let added = listed.iter().find(|member| member.peer_ur_ls.contains(&url)).map(|member| member.id);
            Ok(added.map(|id| (id, listed)))
        })
        .await?;
        let mut everyone = Vec::new();
        for member in listed {
            let name = if member.id == id { self.seats[seat].name().to_owned() } else { member.name };
            everyone.extend(member.peer_ur_ls.into_iter().map(|url| format!("{name}={url}")));
        }
        self.seats[seat].set_flags(&[("initial-cluster", &everyone.join(",")), ("initial-cluster-state", "existing")]);
        Ok(seat)
    }

    /// Asks through member `via` that member `id` is removed, for as long as the cluster is not well enough for it.
    pub async fn remove(&self, via: usize, id: u64) -> Result<()> {
        let client = self.client(via).await?;
        let request = MemberRemoveRequest { id };
        reconfigure(async || client.member_remove(request).await.map(drop), refusal::MEMBER_NOT_FOUND).await
    }

    /// `initial-cluster` with these seats.
    pub fn initial_cluster(&self, seats: impl IntoIterator<Item = usize>) -> String {
        let pairs =
            seats.into_iter().map(|seat| format!("{}={}", self.seats[seat].name(), self.seats[seat].peer_url()));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// Waits until all running members have applied as much, and checks that they hold the same, by their hashes over
    /// all revisions. Returns the revision.
    pub async fn equal(&self) -> Result<i64> {
        let revision = found_within(SETTLE_LIMIT, async || {
            let hashes = self.hashes(0).await?;
            let headers = hashes.iter().map(|hash| hash.header.as_ref().map_or(0, |header| header.revision));
            let (low, high) = (headers.clone().min().unwrap_or(0), headers.max().unwrap_or(0));
            Ok((low == high).then_some(low))
        })
        .await
        .context("the members are not at one revision")?;
        let hashes = self.hashes(revision).await?;
        let told: Vec<_> = hashes.iter().map(|hash| (hash.hash, hash.compact_revision)).collect();
        ensure!(
            told.iter().all(|hash| *hash == told[0]),
            "at revision {revision} the members hold different data: {told:?}"
        );
        Ok(revision)
    }

    /// The hashes of all running members.
    pub async fn hashes(&self, revision: i64) -> Result<Vec<HashKvResponse>> {
        let mut hashes = Vec::new();
        for seat in self.running() {
            let client = self.client(seat).await?;
            hashes.push(within(CALL_LIMIT, client.hash_kv(HashKvRequest { revision })).await??);
        }
        Ok(hashes)
    }

    /// Lets nothing more through from `from` to `to`, as if every packet were lost. The other way is left as it is.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.network.cut(from, to)
    }

    /// Cuts a member off from the others, both ways. Clients still reach it.
    pub fn isolate(&self, seat: usize) -> Result<()> {
        for other in (0..self.seats.len()).filter(|&other| other != seat) {
            self.cut(seat, other)?;
            self.cut(other, seat)?;
        }
        Ok(())
    }

    /// Mends all wires.
    pub fn heal(&self) -> Result<()> {
        self.network.heal()
    }

    /// Breaks every connection between members, and with it what a cut wire holds back: as after a long cut.
    ///
    /// # Errors
    /// Unless the wiring is [`Wiring::Proxied`].
    pub fn break_connections(&self) -> Result<()> {
        self.network.break_connections()
    }

    /// Delays whatever members say to one another by `shortest` to `longest`, each way.
    ///
    /// # Errors
    /// Unless the wiring is [`Wiring::Proxied`].
    pub fn delay(&self, shortest: Duration, longest: Duration) -> Result<()> {
        self.network.delay(shortest, longest)
    }

    /// Loses this share of the packets between members.
    ///
    /// # Errors
    /// Unless the wiring is [`Wiring::Namespaces`].
    pub fn lose(&self, share: f64) -> Result<()> {
        self.network.lose(share)
    }

    fn take_seat(&mut self) -> Result<usize> {
        let seat = self.seats.len();
        let place = self.network.place(seat)?;
        let dir = self.dir.path().join(format!("m{seat}"));
        std::fs::create_dir(&dir)?;
        self.seats.push(Seat::new(self.target, seat, place, dir));
        let flags: Vec<_> = self.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.seats[seat].set_flags(&flags);
        Ok(seat)
    }
}

/// Asks for a change of the members until it is made. A change that was proposed to a leader that then went may have been
/// made or not: etcd goes on waiting for it, and asked again answers `done` if it was.
async fn reconfigure(call: impl AsyncFn() -> Result<(), Status>, done: refusal::Refusal) -> Result<()> {
    let mut asked = false;
    holds_within(SETTLE_LIMIT, async || {
        let again = std::mem::replace(&mut asked, true);
        match within(CALL_LIMIT, call()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(status)) if again && status.message == done.1 => Ok(true),
            Ok(Err(status)) if !passes_by_itself(&status) => Err(status.into()),
            Ok(Err(_)) | Err(_) => Ok(false),
        }
    })
    .await
}

/// What reconfiguration is refused for while a cluster is young or a leader is being elected.
fn passes_by_itself(status: &Status) -> bool {
    let passing = [refusal::UNHEALTHY_CLUSTER.1, refusal::LEADER_CHANGED.1, refusal::TIMED_OUT.1];
    passing.iter().any(|text| status.message.starts_with(text))
}

/// Waits until `seat` answers linearizable reads; returns the connection it answered on.
async fn answers(address: std::net::SocketAddr) -> Result<Client> {
    within(CALL_LIMIT, async {
        let client = Client::connect(address).await?;
        client.range(request::get("ready?")).await?;
        Ok(client)
    })
    .await?
}

/// Fails with all that the process printed.
fn gone(name: &str, status: std::process::ExitStatus, output: &str) -> Result<()> {
    bail!("{name} ended with {status} instead of serving:\n{output}")
}
