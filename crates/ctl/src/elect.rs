//! `elect`: stands for election and leads until interrupted, or tells who is elected.

use api::etcdserverpb as kv;
use api::v3electionpb as pb;
use bytes::Bytes;
use client::{Code, Status, within};
use tokio::time::{Duration, sleep};

use crate::failure::Failure;
use crate::hold::{Hold, Signals, passed_on};
use crate::invocation::Invocation;
use crate::output::Answer;
use crate::session::Session;

/// How long a leader that is gone still leads.
const TTL_SECONDS: i64 = 60;
const EXPIRED: &str = "elect: session expired";

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let listen = invocation.given.is_set("listen");
    let (name, proposal) = match &invocation.given.words[..] {
        [name] if listen => (name, None),
        [_] => return Err(Failure::arguments("no proposal argument but -l not set")),
        [_, _] if listen => return Err(Failure::arguments("proposal given but -l is set")),
        [name, proposal] => (name, Some(proposal)),
        _ => {
            return Err(Failure::arguments("elect takes one election name argument and an optional proposal argument"));
        }
    };
    let name = Bytes::copy_from_slice(name);
    let session = Session::open(invocation)?;
    session.block_on(async {
        match proposal {
            Some(proposal) => campaign(&session, name, Bytes::copy_from_slice(proposal)).await,
            None => {
                let mut signals = Signals::new()?;
                tokio::select! {
                    outcome = observe(&session, name) => outcome,
                    () = signals.next() => Ok(()),
                }
            }
        }
    })
}

async fn campaign(session: &Session, name: Bytes, value: Bytes) -> Result<(), Failure> {
    let hold = Hold::new(&session.cluster, TTL_SECONDS).await?;
    // Until here there was nothing to let go of.
    let mut signals = Signals::new()?;
    // With the same lease it is the same candidate, however often it is asked.
    let elected = session.cluster.read(|client| {
        let request = pb::CampaignRequest { name: name.clone(), lease: hold.lease, value: value.clone() };
        async move { client.campaign(request).await.map_err(passed_on) }
    });
    let elected = tokio::select! {
        elected = hold.during(elected) => elected.ok_or_else(|| Failure::error(EXPIRED))??,
        () = signals.next() => {
            let key = [&name[..], format!("/{:x}", hold.lease).as_bytes()].concat().into();
            withdraw(session, key).await?;
            return Err(Failure::error("context canceled"));
        }
    };
    let leader = elected.leader.unwrap_or_default();
    let lead = async {
        let own = session.cluster.read(|client| {
            let request = kv::RangeRequest { key: leader.key.clone(), ..Default::default() };
            async move { client.range(request).await }
        });
        session.print(&Answer::Get(&own.await?))?;
        std::future::pending().await
    };
    tokio::select! {
        led = hold.during(lead) => return led.unwrap_or_else(|| Err(Failure::error(EXPIRED))),
        () = signals.next() => (),
    }
    let resign = session.cluster.read(|client| {
        let request = pb::ResignRequest { leader: Some(leader.clone()) };
        async move { client.resign(request).await.map_err(passed_on) }
    });
    in_time(session, resign).await.map(|_| ())
}

/// Takes back a candidacy that has not been answered.
async fn withdraw(session: &Session, key: Bytes) -> Result<(), Failure> {
    let delete = session.cluster.read(|client| {
        let request = kv::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        async move { client.delete_range(request).await }
    });
    in_time(session, delete).await.map(|_| ())
}

async fn in_time<T>(session: &Session, call: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
    match within(session.command_timeout(), call).await {
        Some(outcome) => Ok(outcome?),
        None => Err(Failure::error("context deadline exceeded")),
    }
}

/// Prints each leader and each change of what it proclaims, once.
async fn observe(session: &Session, name: Bytes) -> Result<(), Failure> {
    let mut shown = 0;
    loop {
        let request = pb::LeaderRequest { name: name.clone() };
        let client = session.cluster.connection().await;
        let status = match client.observe(request).await {
            Ok(mut leaders) => loop {
                match leaders.next().await {
                    Ok(Some(pb::LeaderResponse { header, kv: Some(leader) })) => {
                        if leader.mod_revision > shown {
                            shown = leader.mod_revision;
                            let response = kv::RangeResponse { header, kvs: vec![leader], ..Default::default() };
                            session.print(&Answer::Get(&response))?;
                        }
                    }
                    Ok(Some(_)) => (),
                    // So it does when it has lost sight of the leader for a moment.
                    Ok(None) => break Status::new(Code::Unavailable, "the server ended the observation"),
                    Err(status) => break passed_on(status),
                }
            },
            Err(status) => passed_on(status),
        };
        if status.code != Code::Unavailable {
            return Err(Failure::error("elect: observer lost").note(status.to_string()));
        }
        session.cluster.leave(&client, &status);
        sleep(Duration::from_millis(100)).await;
    }
}
