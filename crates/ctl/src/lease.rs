//! `lease ...`

use std::time::Duration;

use api::etcdserverpb as pb;
use client::{Code, Status};

use crate::failure::{Exit, Failure};
use crate::flags::Given;
use crate::hold::Renewals;
use crate::invocation::Invocation;
use crate::output::{Answer, Format};
use crate::session::Session;
use crate::{go, standard};

pub(crate) fn grant(invocation: &Invocation) -> Result<(), Failure> {
    let [ttl] = &invocation.given.words[..] else {
        return Err(Failure::arguments("lease grant command needs TTL argument"));
    };
    let ttl = go::parse_int(ttl, 10).map_err(|why| Failure::arguments(format!("bad TTL ({why})")))?;
    let session = Session::open(invocation)?;
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let response = session
        .limited(session.cluster.read(|client| async move { client.lease_grant(request).await }))
        .map_err(|failure| failure.told(Exit::Error, |why| format!("failed to grant lease ({why})")))?;
    session.print(&Answer::LeaseGrant(&response))
}

pub(crate) fn revoke(invocation: &Invocation) -> Result<(), Failure> {
    let id = id(&invocation.given, "lease revoke command needs 1 argument")?;
    let session = Session::open(invocation)?;
    let request = pb::LeaseRevokeRequest { id };
    let response = session
        .limited(session.cluster.read(|client| async move { client.lease_revoke(request).await }))
        .map_err(|failure| failure.told(Exit::Error, |why| format!("failed to revoke lease ({why})")))?;
    session.print(&Answer::LeaseRevoke(id, &response))
}

pub(crate) fn time_to_live(invocation: &Invocation) -> Result<(), Failure> {
    let id = id(&invocation.given, "lease timetolive command needs lease ID as argument")?;
    let keys = invocation.given.is_set("keys");
    let session = Session::open(invocation)?;
    let response = session
        .limited(
            session
                .cluster
                .read(|client| async move { client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys }).await }),
        )
        .map_err(|failure| failure.exiting(Exit::BadConnection))?;
    session.print(&Answer::LeaseTimeToLive(&response, keys))
}

pub(crate) fn list(invocation: &Invocation) -> Result<(), Failure> {
    let session = Session::open(invocation)?;
    let response = session
        .limited(session.cluster.read(|client| async move { client.lease_leases(pb::LeaseLeasesRequest {}).await }))
        .map_err(|failure| failure.exiting(Exit::BadConnection))?;
    session.print(&Answer::Leases(&response))
}

/// Renews a lease each time a third of it has passed, until it is gone.
pub(crate) fn keep_alive(invocation: &Invocation) -> Result<(), Failure> {
    let id = id(&invocation.given, "lease keep-alive command needs lease ID as argument")?;
    let once = invocation.given.is_set("once");
    let session = Session::open(invocation)?;
    let mut renewals = if once { Renewals::once(id) } else { Renewals::of(id) };
    loop {
        let response = session.block_on(renewals.next(&session.cluster));
        let response = response.map_err(|status| Failure::from(status).exiting(Exit::BadConnection))?;
        if response.ttl <= 0 {
            break;
        }
        session.print(&Answer::LeaseKeepAlive(&response))?;
        if once {
            return Ok(());
        }
        session.sleep(Duration::from_secs(response.ttl.unsigned_abs()) / 3);
    }
    if once {
        let gone = Status::new(Code::NotFound, api::errors::LEASE_NOT_FOUND.text);
        return Err(Failure::from(gone).exiting(Exit::BadConnection));
    }
    match session.printer.format {
        Format::Simple => standard::print(format!("lease {id:016x} expired or revoked.\n").as_bytes()),
        _ => Ok(()),
    }
}

fn id(given: &Given, missing: &str) -> Result<i64, Failure> {
    let [id] = &given.words[..] else { return Err(Failure::arguments(missing)) };
    go::parse_int(id, 16).map_err(|why| Failure::arguments(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}
