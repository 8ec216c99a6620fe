//! Three members of one product on this machine: small requests, whichever member they come to.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use api::etcdserverpb::StatusRequest;
use rustix::process::Signal;
use testkit::grpc::Client;
use tokio::time::{Instant, sleep, timeout};

use crate::fill::fill;
use crate::load::{Load, Pace};
use crate::scenario::{MANY, ONE, Turn, WATCHERS};
use crate::server::Server;
use crate::watchers::keep_alive;
use crate::workload::Workload;

const MEMBERS: usize = 3;

/// Readers, spread over the members.
const READERS: (usize, usize) = (64, 1);

/// So many puts make the log files of all members that are filled again from then on.
const WARM_PUTS: u64 = 300_000;

/// Puts a second beside a member that catches up: what either product does without falling behind.
const ABSENCE_RATE: f64 = 1000.0;

/// Why a follower is away.
#[derive(Clone, Copy)]
pub(crate) enum Absence<'a> {
    /// Its process stands still: what it costs when it goes on is the snapshot, and nothing else.
    Frozen,
    /// The same, with its data on another disk.
    FrozenOn(&'a Path),
    /// Its process is gone, and starts again on the same machine as the others.
    Killed,
    /// As [`Absence::Killed`], with its data on another disk.
    KilledOn(&'a Path),
}

impl Absence<'_> {
    fn row(self) -> &'static str {
        match self {
            Absence::Frozen => {
                "three members: a frozen follower goes on and gets a snapshot of 1/5 of the keys x 256 B, 1,000 puts/s at the leader"
            }
            Absence::FrozenOn(_) => {
                "three members: a frozen follower goes on and gets that snapshot on a disk of its own, 1,000 puts/s at the leader"
            }
            Absence::Killed => {
                "three members: a follower comes back to 1/5 of the keys x 256 B, 1,000 puts/s at the leader"
            }
            Absence::KilledOn(_) => "three members: the follower that comes back has a disk of its own",
        }
    }
}

/// How long a cluster may go without one leader.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The members of one product.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Server>,
}

impl Cluster {
    /// Starts all, with default timers, and waits until they serve.
    pub(crate) async fn start(program: &Path, root: &Path, name: &str, flags: &[&str]) -> anyhow::Result<Cluster> {
        let mut members = Vec::new();
        for number in 0..MEMBERS {
            members.push(Server::prepare(program, root, &format!("{name}{number}"), flags)?);
        }
        let founders = members.iter().map(Server::founder).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.set_founders(&founders);
            member.spawn()?;
        }
        for member in &mut members {
            member.ready().await?;
        }
        Ok(Cluster { members })
    }

    /// The member that all others of `seats` name as leader.
    pub(crate) async fn leader(&self, seats: &[usize]) -> anyhow::Result<usize> {
        let start = Instant::now();
        while start.elapsed() < LEADER_TIMEOUT {
            if let Ok(Some(leader)) = self.agreed_leader(seats).await {
                return Ok(leader);
            }
            sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the members do not agree on a leader")
    }

    async fn agreed_leader(&self, seats: &[usize]) -> anyhow::Result<Option<usize>> {
        let (mut ids, mut named) = (Vec::new(), Vec::new());
        for &seat in seats {
            let status = timeout(Duration::from_secs(1), status(self.members[seat].address())).await??;
            ids.push((seat, status.header.context("a status has a header")?.member_id));
            named.push(status.leader);
        }
        let agreed = named.windows(2).all(|two| two[0] == two[1]);
        Ok(ids.into_iter().find(|(_, id)| agreed && named[0] == *id).map(|(seat, _)| seat))
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Server::address).collect()
    }

    fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Server::pid).collect()
    }
}

async fn status(address: SocketAddr) -> anyhow::Result<api::etcdserverpb::StatusResponse> {
    Ok(Client::connect(address).await?.status(StatusRequest {}).await?)
}

impl Turn<'_> {
    pub(crate) async fn trio(&self, flags: &[&str]) -> anyhow::Result<Cluster> {
        Cluster::start(self.program, self.root, self.name, flags).await
    }

    /// Small requests.
    pub(crate) async fn cluster(&mut self) -> anyhow::Result<()> {
        let cluster = self.trio(&[]).await?;
        let (all, pids) = (cluster.addresses(), cluster.pids());
        let mut puts = 0;
        while puts < WARM_PUTS {
            puts += self.load_of(all.clone(), Workload::Put, MANY).run().await?.operations;
        }
        let leader = cluster.leader(&[0, 1, 2]).await?;
        let (leads, follows) = (vec![all[leader]], vec![all[(leader + 1) % MEMBERS]]);
        let rows = [
            ("three members: put 8 B/256 B, 100x10", &all, Workload::Put, MANY),
            ("three members: put, one client of the leader", &leads, Workload::Put, ONE),
            ("three members: put, one client of a follower", &follows, Workload::Put, ONE),
            ("three members: get linearizable, one client of the leader", &leads, Workload::Get, ONE),
            ("three members: get linearizable, one client of a follower", &follows, Workload::Get, ONE),
            ("three members: get linearizable, 64 clients", &all, Workload::Get, READERS),
            ("three members: get linearizable, 100x10", &all, Workload::Get, MANY),
            ("three members: Kubernetes-like mix, 100x10", &all, Workload::Kubernetes, MANY),
        ];
        for (row, endpoints, workload, shape) in rows {
            let load = self.load_of(endpoints.clone(), workload, shape);
            self.measured_of(row, &pids, load).await?;
        }
        let duration = Duration::from_secs_f64(self.size.seconds);
        let (renewed, used) = keep_alive(follows[0], &pids, WATCHERS, duration).await?;
        self.streamed("three members: lease keepalive, 1,000 streams to a follower", "us CPU/op", &renewed, used);
        Ok(())
    }

    /// A follower comes back after a long absence and gets a snapshot, while the leader serves.
    pub(crate) async fn absence(&mut self, absence: Absence<'_>) -> anyhow::Result<()> {
        let flags = ["--snapshot-count=10000", "--experimental-snapshot-catchup-entries=5000"];
        let mut cluster = self.trio(&flags).await?;
        let leader = cluster.leader(&[0, 1, 2]).await?;
        let away = (leader + 1) % MEMBERS;
        let leads = cluster.members[leader].address();
        let member = &mut cluster.members[away];
        if let Absence::FrozenOn(disk) | Absence::KilledOn(disk) = absence {
            member.kill()?;
            member.move_data(disk.join(format!("{}-away", self.name)))?;
        }
        match absence {
            Absence::Frozen => member.signal(Signal::STOP)?,
            Absence::FrozenOn(_) => {
                member.restart().await?;
                member.signal(Signal::STOP)?;
            }
            Absence::Killed => member.kill()?,
            Absence::KilledOn(_) => {}
        }
        fill(leads, self.size.keys / 5, 256).await?;
        // So many entries that the others have dropped those it would need.
        let many = self.load_of(vec![leads], Workload::Put, MANY);
        let mut puts = 0;
        while puts < 30_000 {
            puts += many.run().await?.operations;
        }
        sleep(Duration::from_secs(2)).await;
        let steady = Load { pace: Pace::Open(ABSENCE_RATE), ..self.load_of(vec![leads], Workload::Put, (50, 1)) };
        let before = steady.run().await?;
        match absence {
            Absence::Frozen | Absence::FrozenOn(_) => cluster.members[away].signal(Signal::CONT)?,
            Absence::Killed | Absence::KilledOn(_) => cluster.members[away].spawn()?,
        }
        let start = Instant::now();
        let (meanwhile, back) = tokio::join!(steady.run(), async {
            cluster.members[away].ready().await?;
            anyhow::Ok(start.elapsed())
        });
        let (meanwhile, back) = (meanwhile?, back?);
        eprintln!("{}: before {before}; meanwhile {meanwhile}; back after {back:?}", self.name);
        let row = absence.row();
        self.note(row, "p99 us before", before.latency_us(0.99));
        self.note(row, "p99 us meanwhile", meanwhile.latency_us(0.99));
        self.note(row, "p99 meanwhile / before", meanwhile.latency_us(0.99) / before.latency_us(0.99));
        self.note(row, "s until it serves", back.as_secs_f64());
        Ok(())
    }
}
