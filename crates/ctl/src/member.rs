//! `member ...`

use api::etcdserverpb as pb;
use config::Url;

use crate::failure::Failure;
use crate::flags::Given;
use crate::invocation::Invocation;
use crate::output::{Answer, Format, member_environment};
use crate::session::Session;
use crate::{get, go, standard};

const NO_PEER_URLS: &str = "member peer urls not provided";

pub(crate) fn list(invocation: &Invocation) -> Result<(), Failure> {
    let linearizable = !get::serializable(&invocation.given)?;
    let session = Session::open(invocation)?;
    let response = session.limited(
        session.cluster.read(|client| async move { client.member_list(pb::MemberListRequest { linearizable }).await }),
    )?;
    session.print(&Answer::MemberList(&response))
}

pub(crate) fn add(invocation: &Invocation) -> Result<(), Failure> {
    let given = &invocation.given;
    let name = match &given.words[..] {
        [] => return Err(Failure::arguments("member name not provided")),
        [name] => String::from_utf8_lossy(name).into_owned(),
        _ => return Err(Failure::arguments("too many arguments")),
    };
    let urls = given.text("peer-urls");
    let peer_ur_ls = peer_urls(&urls)?;
    let request = pb::MemberAddRequest { peer_ur_ls, is_learner: given.is_set("learner") };
    let session = Session::open(invocation)?;
    let response = session.limited(session.cluster.write(|client| async move { client.member_add(request).await }))?;
    session.print(&Answer::MemberAdd(&response))?;
    match session.printer.format {
        Format::Simple => standard::print(member_environment(&name, &urls, &response).as_bytes()),
        _ => Ok(()),
    }
}

pub(crate) fn remove(invocation: &Invocation) -> Result<(), Failure> {
    let id = id(&invocation.given)?;
    let session = Session::open(invocation)?;
    let request = pb::MemberRemoveRequest { id };
    let response =
        session.limited(session.cluster.write(|client| async move { client.member_remove(request).await }))?;
    session.print(&Answer::MemberRemove(id, &response))
}

pub(crate) fn update(invocation: &Invocation) -> Result<(), Failure> {
    let id = id(&invocation.given)?;
    let peer_ur_ls = peer_urls(&invocation.given.text("peer-urls"))?;
    let session = Session::open(invocation)?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls };
    let response =
        session.limited(session.cluster.write(|client| async move { client.member_update(request).await }))?;
    session.print(&Answer::MemberUpdate(id, &response))
}

pub(crate) fn promote(invocation: &Invocation) -> Result<(), Failure> {
    let id = id(&invocation.given)?;
    let session = Session::open(invocation)?;
    let request = pb::MemberPromoteRequest { id };
    let response =
        session.limited(session.cluster.write(|client| async move { client.member_promote(request).await }))?;
    session.print(&Answer::MemberPromote(id, &response))
}

fn id(given: &Given) -> Result<u64, Failure> {
    let [id] = &given.words[..] else { return Err(Failure::arguments("member ID is not provided")) };
    go::parse_uint(id, 16).map_err(|why| Failure::arguments(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

fn peer_urls(text: &str) -> Result<Vec<String>, Failure> {
    match text.is_empty() {
        true => Err(Failure::arguments(NO_PEER_URLS)),
        false => text.split(',').map(peer_url).collect(),
    }
}

fn peer_url(text: &str) -> Result<String, Failure> {
    match Url::parse(text) {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(why) => Err(Failure::error(why.to_string())),
    }
}
