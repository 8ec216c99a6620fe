//! Entries are applied by whichever thread is free for it: each of them once, and in the order of the log.

use std::path::Path;
use std::sync::Arc;

use api::etcdserverpb::PutRequest;
use bytes::Bytes;
use env::{RealDisk, SystemClock, SystemRng};
use server::{Bootstrap, Door, Member, Settings, World};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

const THREADS: usize = 4;
const TURNS: usize = 60;
/// Beyond what a thread applies itself that only steps consensus.
const BURST: usize = 12;

fn start(dir: &Path) -> Member {
    let rng = Box::new(SystemRng::with_seed(1));
    let world =
        World { disk: Arc::new(RealDisk), clock: Arc::new(SystemClock::default()), rng, peer_listeners: vec![] };
    let settings = Settings::new(dir.join("data"));
    let begin = Bootstrap::founding(&settings.initial_cluster, &settings.name).expect("a cluster of one");
    let member = Member::start(settings, &begin, world).expect("a new member starts");
    member.wait_ready().expect("the member works");
    member
}

/// Lone puts and bursts in turns; returns their revisions, and checks that later ones have later revisions.
fn put_in_turns(door: &Door, thread: usize) -> Vec<i64> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let handle = door.open();
        let put = |turn: usize| {
            let handle = handle.clone();
            let key = Bytes::from(format!("{thread}"));
            let request = PutRequest { key, value: Bytes::from(format!("{turn}")), ..PutRequest::default() };
            tokio::task::spawn_local(async move { handle.put(request).await.expect("the member works").revision })
        };
        let mut revisions = vec![];
        for turn in 0..TURNS {
            let lone = put(turn).await.expect("no panic");
            assert!(revisions.last().is_none_or(|last| lone > *last), "{lone} after {:?}", revisions.last());
            revisions.push(lone);
            let burst = (0..BURST).map(|_| put(turn)).collect::<Vec<_>>();
            let mut answers = vec![];
            for put in burst {
                answers.push(put.await.expect("no panic"));
            }
            assert!(answers.iter().all(|revision| *revision > lone));
            answers.sort_unstable();
            revisions.extend(answers);
        }
        revisions
    })
}

#[test]
fn what_many_threads_put_is_applied_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let member = start(dir.path());
    let threads = (0..THREADS).map(|thread| {
        let door = member.door();
        std::thread::spawn(move || put_in_turns(&door, thread))
    });
    let threads = threads.collect::<Vec<_>>();
    let mut revisions = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>();
    revisions.sort_unstable();
    let all = (THREADS * TURNS * (1 + BURST)) as i64;
    assert_eq!(revisions, (2..2 + all).collect::<Vec<_>>());
    member.stop().expect("nothing broke");
}
