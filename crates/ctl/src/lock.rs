//! `lock`: holds a lock until interrupted, or while a command runs.
//!
//! The lock is a key below its name, called after the lease it hangs from. Asking again with the same lease is the same
//! wish, so a member may be lost at any time.

use api::v3lockpb as pb;
use bytes::Bytes;
use client::within;

use crate::failure::Failure;
use crate::hold::{Hold, Signals, passed_on};
use crate::invocation::Invocation;
use crate::output::Answer;
use crate::program;
use crate::session::Session;

const EXPIRED: &str = "session expired";

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let [name, command @ ..] = &invocation.given.words[..] else {
        return Err(Failure::arguments("lock takes a lock name argument and an optional command to execute"));
    };
    let ttl = invocation.given.value("ttl").map_or(10, |_| invocation.given.int("ttl"));
    let session = Session::open(invocation)?;
    session.block_on(async {
        let hold = Hold::new(&session.cluster, ttl).await?;
        let mut signals = Signals::new()?;
        let locked = acquire(&session, &hold, name, &mut signals).await?;
        let held = match command {
            [] => until_signal(&session, &hold, &locked.key, &mut signals).await,
            _ => {
                let revision = locked.header.map_or(0, |header| header.revision).to_string().into_bytes();
                let variables = [("ETCD_LOCK_KEY", locked.key.to_vec()), ("ETCD_LOCK_REV", revision)];
                while_running(&hold, program::run(command, &variables)).await
            }
        };
        let released = release(&session, locked.key).await;
        held.and(released)
    })
}

async fn acquire(
    session: &Session,
    hold: &Hold<'_>,
    name: &[u8],
    signals: &mut Signals,
) -> Result<pb::LockResponse, Failure> {
    let call = session.cluster.read(|client| {
        let request = pb::LockRequest { name: Bytes::copy_from_slice(name), lease: hold.lease };
        async move { client.lock(request).await.map_err(passed_on) }
    });
    tokio::select! {
        locked = hold.during(call) => Ok(locked.ok_or_else(|| Failure::error(EXPIRED))??),
        () = signals.next() => {
            // The wish is a key already, and would take the lock in its turn.
            release(session, [name, format!("/{:x}", hold.lease).as_bytes()].concat().into()).await?;
            Err(Failure::error("context canceled"))
        }
    }
}

async fn until_signal(session: &Session, hold: &Hold<'_>, key: &Bytes, signals: &mut Signals) -> Result<(), Failure> {
    let shown_and_held = async {
        let own = session.cluster.read(|client| {
            let request = api::etcdserverpb::RangeRequest { key: key.clone(), ..Default::default() };
            async move { client.range(request).await }
        });
        let own = own.await?;
        if own.kvs.is_empty() {
            return Err(Failure::error("lock lost on init"));
        }
        session.print(&Answer::Get(&own))?;
        std::future::pending().await
    };
    tokio::select! {
        held = hold.during(shown_and_held) => held.unwrap_or_else(|| Err(Failure::error(EXPIRED))),
        () = signals.next() => Ok(()),
    }
}

/// A command that runs is not disturbed if the lease is lost.
async fn while_running(
    hold: &Hold<'_>,
    running: impl Future<Output = Result<(), program::Unsuccessful>>,
) -> Result<(), Failure> {
    let mut running = std::pin::pin!(running);
    let outcome = match hold.during(&mut running).await {
        Some(outcome) => outcome,
        None => running.await,
    };
    outcome.map_err(|unsuccessful| match unsuccessful.code {
        Some(code) => Failure::with_code(code, unsuccessful.text),
        None => Failure::error(unsuccessful.text),
    })
}

/// Gives the lock up, if the cluster can be told. If not, the lease ends it.
async fn release(session: &Session, key: Bytes) -> Result<(), Failure> {
    let call = session.cluster.read(|client| {
        let request = pb::UnlockRequest { key: key.clone() };
        async move { client.unlock(request).await.map_err(passed_on) }
    });
    match within(session.command_timeout(), call).await {
        Some(outcome) => Ok(outcome.map(|_| ())?),
        None => Err(Failure::error("context deadline exceeded")),
    }
}
