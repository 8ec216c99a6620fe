//! What a member does for its cluster without being asked: it says who it is, and the leader sees to the version. And if the
//! operator asks for it, data is compared and history compacted.

use std::time::Duration;

use api::etcdserverpb::internal_raft_request::Request;
use api::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use membership::{ClusterVersion, next_cluster_version};
use tokio::time::{sleep, timeout};

use crate::auto_compaction;
use crate::corruption;
use crate::error::Error;
use crate::handle::Handle;

/// How often the leader asks the members for their versions; etcd's.
const VERSION_INTERVAL: Duration = Duration::from_secs(4);
const PUBLISH_PATIENCE: Duration = Duration::from_millis(500);
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Runs on the transport's thread until the member stops.
pub(crate) async fn run(handle: Handle) {
    tokio::select! {
        () = handle.stopped() => {}
        _ = async { tokio::join!(see_to_cluster(&handle), see_to_data(&handle), auto_compaction::run(&handle)) } => {}
    }
}

async fn see_to_data(handle: &Handle) {
    let member = handle.inner();
    if member.board.is_unchecked() {
        if let Err(found) = corruption::check_before_taking_part(handle).await {
            return member.fate.fail(found);
        }
        tracing::info!("compared the data with the other members'");
        member.board.set_is_unchecked(false);
        member.consensus.look_again();
    }
    corruption::check_regularly(handle).await;
}

async fn see_to_cluster(handle: &Handle) {
    let mut status = handle.status_changes();
    loop {
        let leads = {
            // An error means that the member has stopped.
            let Ok(status) = status.wait_for(|status| status.leader.0 != 0).await else { return };
            status.leads_in_term
        };
        if leads {
            decide_version(handle).await;
        }
        if !handle.inner().is_published() {
            publish(handle).await;
        }
        if handle.inner().is_published() {
            // A new leader decides at once.
            let _ = timeout(VERSION_INTERVAL, status.changed()).await;
        }
    }
}

/// Tells the cluster this member's name and client URLs.
async fn publish(handle: &Handle) {
    let settings = &handle.inner().settings;
    let attributes = Attributes { name: settings.name.clone(), client_urls: settings.client_urls.clone() };
    let request =
        ClusterMemberAttrSetRequest { member_id: handle.identity().member_id.0, member_attributes: Some(attributes) };
    // While connections come about, a proposal may get lost on its way to the leader; this one may be made twice.
    match timeout(PUBLISH_PATIENCE, handle.propose(Request::ClusterMemberAttrSet(request))).await {
        Ok(Ok(_)) => tracing::info!(name = settings.name, "published the member"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot publish the member yet");
            sleep(RETRY_INTERVAL).await;
        }
        Err(_) => tracing::debug!("no answer yet to what was published of this member"),
    }
}

async fn decide_version(handle: &Handle) {
    let Some(wanted) = wanted_version(handle).await else { return };
    let request = ClusterVersionSetRequest { ver: wanted.to_string() };
    match handle.propose(Request::ClusterVersionSet(request)).await {
        Ok(_) => tracing::info!(version = %wanted, "the cluster's version is decided"),
        Err(Error::Stopped) => {}
        Err(error) => tracing::warn!(%error, "cannot set the cluster's version yet"),
    }
}

/// The version the cluster is to have, if it is another than it has.
async fn wanted_version(handle: &Handle) -> Option<ClusterVersion> {
    let me = handle.identity().member_id;
    let membership = handle.state().membership();
    let mut versions = Vec::new();
    for member in membership.members() {
        versions.push(match member.id == me {
            true => handle.identity().version.parse().ok(),
            false => version_of(&member.peer_urls, handle.limits().election_timeout).await,
        });
    }
    next_cluster_version(membership.version(), versions, membership.downgrade())
}

async fn version_of(peer_urls: &[String], patience: Duration) -> Option<ClusterVersion> {
    for url in peer_urls {
        match peer::client::get_version(url, patience).await {
            Ok(versions) => return versions.server.parse().ok(),
            Err(error) => tracing::debug!(url, %error, "a member does not say its version"),
        }
    }
    None
}
