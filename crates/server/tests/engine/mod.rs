//! A member on a simulated disk, without threads.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;
use std::sync::Arc;

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{InternalRaftRequest, PutRequest, RequestHeader};
use bytes::Bytes;
use consensus::Effect;
use env::{Disk, Monotonic, SimDisk, SystemRng};
use machine::Applied;
use membership::Change;
use mvcc::PruneStep;
use prost::Message;
use server::{Bootstrap, Core, Layout, Settings, StartError, boot};
use types::{Index, MemberId};

/// Runs a member in one thread: what the server's threads do, one after the other.
pub(crate) struct Engine {
    pub(crate) core: Core,
    next_id: u64,
}

impl Engine {
    pub(crate) fn start(disk: &SimDisk, segment_size_bytes: u64) -> Result<Engine, StartError> {
        Engine::start_with(disk, segment_size_bytes, |_| ())
    }

    pub(crate) fn start_with(
        disk: &SimDisk,
        segment_size_bytes: u64,
        adjust: impl Fn(&mut Settings),
    ) -> Result<Engine, StartError> {
        let mut settings = Settings::new("/data".into());
        settings.wal_segment_size_bytes = segment_size_bytes;
        settings.catchup_entries = 20;
        adjust(&mut settings);
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let layout = Layout::new(Path::new("/data"), None);
        layout.create_root(disk.as_ref()).expect("the root can be made");
        let begin =
            Bootstrap::founding(&settings.initial_cluster, &settings.name).expect("the defaults name one member");
        let core = boot(&disk, &layout, &settings, &begin, Box::new(SystemRng::with_seed(1)))?;
        let mut engine = Engine { core, next_id: 1 };
        engine.run();
        engine.core.driver.campaign();
        engine.run();
        Ok(engine)
    }

    /// Carries out effects until there are none. Returns the results of requests, by request id.
    fn run(&mut self) -> Vec<(u64, bool)> {
        let mut results = vec![];
        loop {
            let mut effects = vec![];
            self.core.driver.drain(&mut effects);
            if effects.is_empty() {
                return results;
            }
            for effect in effects {
                match effect {
                    Effect::Persist { number, entries, hard_state } => {
                        self.core.wal.append(&entries, hard_state).expect("the simulated disk has space");
                        self.core.wal.sync().expect("the simulated disk works");
                        self.core.driver.persisted(number);
                    }
                    Effect::Apply(entries) => {
                        let mut applied = Applied::default();
                        self.core.machine.apply(&entries, Monotonic::default(), &mut applied).expect("entries apply");
                        self.core.driver.applied(entries.last().expect("never empty").index);
                        for change in applied.voter_changes {
                            self.core.driver.conf_changed(server::to_consensus(change)).expect("raft accepts it");
                        }
                        results.extend(applied.results.iter().map(|(id, _, result)| (*id, result.is_ok())));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Proposes a change of the members and runs. It takes effect if the voters there were before agree.
    pub(crate) fn change(&mut self, change: &Change) {
        self.next_id += 1;
        let data = machine::encode_conf_change(self.next_id, change);
        self.core.driver.propose_conf_change(data).expect("it leads");
        self.run();
    }

    /// Who is a member.
    pub(crate) fn members(&self) -> Vec<MemberId> {
        self.core.machine.shared().membership().members().map(|member| member.id).collect()
    }

    /// Proposes and runs; returns whether the request was acknowledged.
    pub(crate) fn request(&mut self, request: Request) -> bool {
        self.next_id += 1;
        let header = Some(RequestHeader { id: self.next_id, ..Default::default() });
        let data = InternalRaftRequest { header, id: 0, request: Some(request) }.encode_to_vec();
        self.core.driver.propose([Bytes::from(data)]).expect("a single voter leads");
        self.run().contains(&(self.next_id, true))
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> bool {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        self.request(Request::Put(PutRequest { key, value, ..Default::default() }))
    }

    pub(crate) fn commit_backend(&mut self) {
        let committed = self.core.backend.commit().expect("the simulated disk works");
        let needed = committed.applied.0.0.saturating_sub(10);
        self.core.wal.release_before(Index(needed)).expect("the simulated disk works");
        self.core.wal.prepare_spare().expect("the simulated disk has space");
    }

    pub(crate) fn prune(&mut self) {
        let view = self.core.machine.shared().view().clone();
        while let PruneStep::Removed(staged) = view.prune_step(7).expect("the backend reads") {
            self.core.backend.stage(staged);
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.core.machine.shared().view().revision()
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let view = self.core.machine.shared().view();
        let record = view.get_at(key.as_bytes(), view.revision()).expect("the current revision reads")?;
        Some(String::from_utf8(record.value().to_vec()).expect("values are text"))
    }
}
