//! `endpoint health`, `endpoint status`, `endpoint hashkv`: each endpoint is asked by itself.

use std::time::Duration;

use api::etcdserverpb as pb;
use client::{Code, Endpoint, Status};
use env::{Clock, SystemClock};
use tokio::task::JoinSet;

use crate::failure::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{Answer, Health};
use crate::session::{Session, within};
use crate::standard;

/// Reading this key tells whether reads go through consensus. It need not be there.
const HEALTH_KEY: &[u8] = b"health";

pub(crate) fn health(invocation: &Invocation) -> Result<(), Failure> {
    let session = Session::open(invocation)?;
    let endpoints = chosen(&session, invocation)?;
    let mut asked = JoinSet::new();
    session.block_on(async {
        for (index, endpoint) in endpoints.iter().enumerate() {
            let (cluster, limit) = (session.at(endpoint), session.command_timeout());
            asked.spawn(async move { (index, ask_health(cluster, limit).await) });
        }
    });
    let mut found = session.block_on(asked.join_all());
    found.sort_by_key(|(index, _)| *index);
    let found: Vec<Health> = found
        .into_iter()
        .map(|(index, (took, error))| Health { endpoint: endpoints[index].text().to_owned(), took, error })
        .collect();
    session.print(&Answer::Health(&found))?;
    match found.iter().all(|health| health.error.is_none()) {
        true => Ok(()),
        false => Err(Failure::error("unhealthy cluster")),
    }
}

/// How long it took to answer, and why it is not healthy.
async fn ask_health(cluster: client::Balanced, limit: Duration) -> (Duration, Option<String>) {
    let clock = SystemClock::default();
    let read = cluster.read(|client| async move {
        let request = pb::RangeRequest { key: HEALTH_KEY.into(), ..Default::default() };
        match client.range(request).await {
            // Who may not read it was heard by a quorum all the same.
            Err(status) if status.code == Code::PermissionDenied => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    });
    if let Err(failure) = within(limit, &cluster, read).await {
        failure.notes().iter().for_each(|note| standard::complain(note));
        return (clock.now().0, Some(failure.text().to_owned()));
    }
    let took = clock.now().0;
    let alarms = cluster.read(|client| async move { client.alarm(pb::AlarmRequest::default()).await });
    let error = match within(limit.saturating_sub(took), &cluster, alarms).await {
        Ok(response) if response.alarms.is_empty() => None,
        Ok(response) => Some(response.alarms.iter().fold("Active Alarm(s): ".to_owned(), |text, alarm| {
            let name = match alarm.alarm() {
                pb::AlarmType::Nospace => "NOSPACE",
                pb::AlarmType::Corrupt => "CORRUPT",
                pb::AlarmType::None => "UNKNOWN",
            };
            text + name + " "
        })),
        Err(_) => Some("Unable to fetch the alarm list".to_owned()),
    };
    (took, error)
}

pub(crate) fn status(invocation: &Invocation) -> Result<(), Failure> {
    let session = Session::open(invocation)?;
    let (found, all) = each(&session, invocation, "Failed to get the status of endpoint", |client| async move {
        client.status(pb::StatusRequest {}).await
    })?;
    session.print(&Answer::Status(&found))?;
    all.map_err(|_| Failure::silent(Exit::Error))
}

pub(crate) fn hash_kv(invocation: &Invocation) -> Result<(), Failure> {
    let revision = invocation.given.int("rev");
    let session = Session::open(invocation)?;
    let (found, all) = each(&session, invocation, "Failed to get the hash of endpoint", |client| async move {
        client.hash_kv(pb::HashKvRequest { revision }).await
    })?;
    session.print(&Answer::HashKv(&found))?;
    all
}

/// The answers of those endpoints that gave one, by endpoint, and whether all did. What goes wrong is told at once.
#[allow(clippy::type_complexity, reason = "a list of pairs, and whether it is all of them")]
fn each<T, F: Future<Output = Result<T, Status>>>(
    session: &Session,
    invocation: &Invocation,
    complaint: &str,
    call: impl Fn(client::Client) -> F,
) -> Result<(Vec<(String, T)>, Result<(), Failure>), Failure> {
    let mut answers = Vec::new();
    let mut all = Ok(());
    for endpoint in chosen(session, invocation)? {
        let cluster = session.at(&endpoint);
        let answer = within(session.command_timeout(), &cluster, cluster.read(&call));
        match session.block_on(answer) {
            Ok(answer) => answers.push((endpoint.text().to_owned(), answer)),
            Err(failure) => {
                failure.notes().iter().for_each(|note| standard::complain(note));
                standard::complain(&format!("{complaint} {} ({})", endpoint.text(), failure.text()));
                all = Err(Failure::error(failure.text()));
            }
        }
    }
    Ok((answers, all))
}

/// The endpoints given, or with `--cluster` those that the members advertise.
pub(crate) fn chosen(session: &Session, invocation: &Invocation) -> Result<Vec<Endpoint>, Failure> {
    if !invocation.given.is_set("cluster") {
        return Ok(session.endpoints().to_vec());
    }
    let list = session
        .cluster
        .read(|client| async move { client.member_list(pb::MemberListRequest { linearizable: true }).await });
    let response = session.limited(list).map_err(|failure| {
        failure.told(Exit::Error, |why| format!("failed to fetch endpoints from etcd cluster member list: {why}"))
    })?;
    let urls = response.members.iter().flat_map(|member| &member.client_ur_ls);
    urls.map(|url| url.parse().map_err(|why: client::EndpointError| Failure::error(why.to_string()))).collect()
}
