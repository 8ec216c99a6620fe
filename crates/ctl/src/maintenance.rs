//! `alarm ...`, `defrag`, `move-leader`

use api::etcdserverpb as pb;

use crate::endpoint;
use crate::failure::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{Answer, Format};
use crate::session::{Session, within};
use crate::{go, standard};

pub(crate) fn alarm_list(invocation: &Invocation) -> Result<(), Failure> {
    no_words(invocation, "alarm list")?;
    let session = Session::open(invocation)?;
    let response = session
        .limited(session.cluster.read(|client| async move { client.alarm(pb::AlarmRequest::default()).await }))?;
    session.print(&Answer::Alarm(&response))
}

/// Takes back whatever alarm is raised, one by one.
pub(crate) fn alarm_disarm(invocation: &Invocation) -> Result<(), Failure> {
    no_words(invocation, "alarm disarm")?;
    let session = Session::open(invocation)?;
    let mut response = session.limited(session.cluster.write(|client| async move {
        let raised = client.alarm(pb::AlarmRequest::default()).await?;
        let mut disarmed = pb::AlarmResponse { header: raised.header, alarms: Vec::new() };
        for alarm in raised.alarms {
            let action = pb::alarm_request::AlarmAction::Deactivate.into();
            let request = pb::AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.alarm };
            let response = client.alarm(request).await?;
            disarmed.header = response.header;
            disarmed.alarms.extend(response.alarms);
        }
        Ok(disarmed)
    }))?;
    if session.printer.format != Format::Fields {
        // etcdctl puts its answer together from the alarms alone.
        response.header = None;
    }
    session.print(&Answer::Alarm(&response))
}

fn no_words(invocation: &Invocation, command: &str) -> Result<(), Failure> {
    match invocation.given.words.is_empty() {
        true => Ok(()),
        false => Err(Failure::arguments(format!("{command} command accepts no arguments"))),
    }
}

pub(crate) fn defrag(invocation: &Invocation) -> Result<(), Failure> {
    if invocation.given.value("data-dir").is_some_and(|dir| !dir.is_empty()) {
        return Err(Failure::arguments("--data-dir is not there yet"));
    }
    let session = Session::open(invocation)?;
    let mut all = Ok(());
    for endpoint in endpoint::chosen(&session, invocation)? {
        let cluster = session.at(&endpoint);
        let call = cluster.write(|client| async move { client.defragment(pb::DefragmentRequest {}).await });
        match session.block_on(within(session.command_timeout(), &cluster, call)) {
            Ok(_) => {
                standard::print(format!("Finished defragmenting etcd member[{}]\n", endpoint.text()).as_bytes())?;
            }
            Err(failure) => {
                failure.notes().iter().for_each(|note| standard::complain(note));
                standard::complain(&format!(
                    "Failed to defragment etcd member[{}] ({})",
                    endpoint.text(),
                    failure.text()
                ));
                all = Err(Failure::silent(Exit::Error));
            }
        }
    }
    all
}

/// Only the leader can hand leadership over, so it is looked for among the endpoints.
pub(crate) fn move_leader(invocation: &Invocation) -> Result<(), Failure> {
    let [target] = &invocation.given.words[..] else {
        return Err(Failure::arguments("move-leader command needs 1 argument"));
    };
    let to = go::parse_uint(target, 16).map_err(Failure::arguments)?;
    let session = Session::open(invocation)?;
    for endpoint in session.endpoints() {
        let cluster = session.at(endpoint);
        let status = cluster.read(|client| async move { client.status(pb::StatusRequest {}).await });
        let status = session.block_on(within(session.command_timeout(), &cluster, status))?;
        let from = status.header.map_or(0, |header| header.member_id);
        if status.leader != from {
            continue;
        }
        let request = pb::MoveLeaderRequest { target_id: to };
        let call = cluster.write(|client| async move { client.move_leader(request).await });
        let response = session.block_on(within(session.command_timeout(), &cluster, call))?;
        return session.print(&Answer::MoveLeader { from, to, response: &response });
    }
    let asked: Vec<&str> = session.endpoints().iter().map(client::Endpoint::text).collect();
    Err(Failure::arguments(format!("no leader endpoint given at [{}]", asked.join(" "))))
}
