//! How a member begins: it founds a cluster with others, joins one, goes on with its data, or makes that data a cluster
//! of its own.
//!
//! Invariants
//! - All members of a new cluster compute the same ids and the same first entries.
//! - A member that has run before never begins again with nothing: it might vote twice, and forget what it acknowledged.
//! - What is on disk is only looked at after everything that can be refused has been.
//!
//! Reads no disk and opens no connection: the caller tells what the log holds, and asks others through [`Outside`].

use std::net::SocketAddr;
use std::time::Duration;

use membership::{
    Attributes, Change, ClusterVersion, JoinError, Member, Membership, NewCluster, OwnUrlsError, check_own_urls,
    find_own_id,
};
use types::{ClusterId, EntryKind, HardState, Index, InitialCluster, LogEntry, MemberId, Term};

use crate::settings::InitialState;

/// What to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Without data: a log that begins with the members, as if an earlier term had agreed on them.
    NewCluster {
        cluster: ClusterId,
        member: MemberId,
        hard_state: HardState,
        entries: Vec<LogEntry>,
        /// All members, this one included, in order of ids.
        members: Vec<Member>,
    },
    /// Without data: an empty log, to be filled by the members that are there.
    Join {
        cluster: ClusterId,
        member: MemberId,
        /// The others, as they said it. To be talked to until the log tells who is a member.
        remotes: Vec<Member>,
    },
    /// With data: the ids in the log count, and none of the flags does.
    Restart,
}

/// What one of a cluster's members says of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCluster {
    pub cluster: ClusterId,
    pub members: Vec<Member>,
}

/// The network, as far as a member without data needs it.
pub trait Outside {
    /// The addresses of a host name, asked for until they are there or it takes too long.
    ///
    /// # Errors
    /// Why there are none.
    fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String>;

    /// `GET /members` of the members at these peer URLs, all at the same time; the answers in the order of the URLs, and why
    /// there is none, or none that can be read, within `timeout`.
    fn members(&mut self, urls: &[&str], timeout: Duration) -> Vec<Result<RemoteCluster, String>>;

    /// The cluster version that `GET /version` of the member at a peer URL tells: `None` while it is undecided.
    ///
    /// # Errors
    /// Why there is no answer, or none that can be read.
    fn cluster_version(&mut self, url: &str) -> Result<Option<ClusterVersion>, String>;

    /// `GET /downgrade/enabled` of the member at a peer URL.
    ///
    /// # Errors
    /// Why there is no answer, or none that can be read.
    fn downgrade_enabled(&mut self, url: &str) -> Result<bool, String>;
}

/// Why a member without data does not begin. Shown in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NameMissing(String),
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(InitialCluster),
    #[error(transparent)]
    OwnUrls(#[from] OwnUrlsError),
    #[error("member {0} has already been bootstrapped")]
    AlreadyBootstrapped(MemberId),
    #[error("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs")]
    NobodyAnswers,
    #[error("error validating peerURLs {cluster}: {why}")]
    OtherMembers { cluster: String, why: JoinError },
    #[error("incompatible with current running cluster")]
    Incompatible,
}

/// What a member without data was told about the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    pub name: &'a str,
    pub advertised: &'a [String],
    pub initial: &'a InitialCluster,
    pub state: InitialState,
    /// The etcd release this server is compatible with.
    pub version: ClusterVersion,
}

/// One of several founders that are asked whether they know this one already: they may all be about to start.
const FOUNDER_TIMEOUT: Duration = Duration::from_secs(1);
const MEMBER_TIMEOUT: Duration = Duration::from_secs(10);

impl Bootstrap {
    /// Decides how to begin without data.
    ///
    /// # Errors
    /// If what was told contradicts itself or the members that are there.
    ///
    /// Source: etcd-io/etcd `etcdserver/bootstrap.go`.
    pub fn without_data(told: &Told<'_>, outside: &mut dyn Outside) -> Result<Bootstrap, BootstrapError> {
        let own = told.initial.member(told.name).ok_or_else(|| BootstrapError::NameMissing(told.name.to_owned()))?;
        if told.state == InitialState::New {
            check_own_urls(own, told.advertised, &mut |host, port| outside.resolve(host, port))?;
        }
        if told.initial.has_duplicate_url() {
            return Err(BootstrapError::DuplicateUrl(told.initial.clone()));
        }
        match told.state {
            InitialState::New => found(told, outside),
            InitialState::Existing => join(told, outside),
        }
    }
}

impl Bootstrap {
    /// How the member `name` founds `initial`, without asking anybody; `None` if it is not in it.
    pub fn founding(initial: &InitialCluster, name: &str) -> Option<Bootstrap> {
        let NewCluster { cluster, members } = NewCluster::new(initial);
        let member = members.iter().find(|member| member.attributes.name == name)?.id;
        Some(new_cluster(cluster, member, members))
    }
}

fn found(told: &Told<'_>, outside: &mut dyn Outside) -> Result<Bootstrap, BootstrapError> {
    let NewCluster { cluster, members } = NewCluster::new(told.initial);
    let own = members.iter().find(|member| member.attributes.name == told.name).expect("the name was looked for");
    let member = own.id;
    // All are asked, not the first that answers: one may have been away when this member ran.
    let urls = told.initial.urls_of_others(told.name);
    for (url, remote) in urls.iter().zip(outside.members(&urls, FOUNDER_TIMEOUT)) {
        let Ok(remote) = remote else { continue };
        if remote.cluster != cluster {
            warn_of_another_cluster(url, remote.cluster, cluster);
        }
        if remote.members.iter().any(|other| other.id == member && has_run(other)) {
            return Err(BootstrapError::AlreadyBootstrapped(member));
        }
    }
    Ok(new_cluster(cluster, member, members))
}

fn new_cluster(cluster: ClusterId, member: MemberId, members: Vec<Member>) -> Bootstrap {
    let term = Term(1);
    // Without names: founders may know each other by different ones, and must write the same log. Each tells its own.
    let entry = |(index, member): (u64, &Member)| {
        let nameless = Member { attributes: Attributes::default(), ..member.clone() };
        let data = machine::encode_conf_change(0, &Change::Add(nameless));
        LogEntry { term, index: Index(index), kind: EntryKind::ConfChange, data }
    };
    let entries: Vec<LogEntry> = (1..).zip(&members).map(entry).collect();
    let hard_state = HardState { term, vote: MemberId(0), commit: Index(entries.len() as u64) };
    Bootstrap::NewCluster { cluster, member, hard_state, entries, members }
}

fn join(told: &Told<'_>, outside: &mut dyn Outside) -> Result<Bootstrap, BootstrapError> {
    let urls = told.initial.urls_of_others(told.name);
    // All are asked here too. The first that answers counts; but who was added a moment ago may be missing in its list, and then
    // it is the first that knows it.
    let answers = urls.iter().zip(outside.members(&urls, MEMBER_TIMEOUT));
    let answers = answers.filter_map(|(url, said)| Some((*url, said.ok()?)));
    let answers: Vec<_> = answers.filter(|(_, said)| !said.members.is_empty()).collect();
    let mut places = answers.iter().map(|(_, said)| find_place(told, said, outside));
    let first = places.next().ok_or(BootstrapError::NobodyAnswers)?;
    let (member, RemoteCluster { cluster, mut members }) =
        first.or_else(|why| places.find_map(Result::ok).ok_or(why))?;
    for (url, other) in answers.iter().filter(|(_, other)| other.cluster != cluster) {
        warn_of_another_cluster(url, other.cluster, cluster);
    }
    // etcd lets it in, and it panics at the first heartbeat: the others count on what it acknowledged before.
    let mut said = answers.iter().flat_map(|(_, said)| &said.members);
    if said.any(|other| other.id == member && has_run(other)) {
        return Err(BootstrapError::AlreadyBootstrapped(member));
    }
    members.retain(|other| other.id != member);
    if !is_compatible(&members, told.version, outside) {
        return Err(BootstrapError::Incompatible);
    }
    Ok(Bootstrap::Join { cluster, member, remotes: members })
}

/// Which of the members that `said` lists, sorted, this one is.
fn find_place(
    told: &Told<'_>,
    said: &RemoteCluster,
    outside: &mut dyn Outside,
) -> Result<(MemberId, RemoteCluster), BootstrapError> {
    let RemoteCluster { cluster, mut members } = said.clone();
    members.sort_by_key(|member| member.id);
    let id = find_own_id(told.initial, told.name, &members, &mut |host, port| outside.resolve(host, port))
        .map_err(|why| BootstrapError::OtherMembers { cluster: show(cluster, &members), why })?;
    Ok((id, RemoteCluster { cluster, members }))
}

/// etcd says nothing, and from then on the members refuse each other.
fn warn_of_another_cluster(url: &str, theirs: ClusterId, ours: ClusterId) {
    tracing::warn!(
        url,
        %theirs,
        %ours,
        "the member at this URL belongs to another cluster: the initial clusters or tokens differ, or this member should \
         join (--initial-cluster-state=existing)"
    );
}

/// Whether a member has been served from: it says where its clients find it before it lets them in.
fn has_run(member: &Member) -> bool {
    !member.attributes.client_urls.is_empty()
}

/// Whether a server of `own` version may live among `members`: one of them at least must tell a version, and none of
/// those told may be out of bounds.
///
/// Source: etcd-io/etcd `etcdserver/cluster_util.go` (`isCompatibleWithCluster`).
fn is_compatible(members: &[Member], own: ClusterVersion, outside: &mut dyn Outside) -> bool {
    let urls = |member: &Member| member.peer_urls.clone();
    let mut versions = Vec::new();
    for member in members {
        versions.extend(urls(member).iter().find_map(|url| outside.cluster_version(url).ok()).flatten());
    }
    let is_downgrade =
        members.iter().flat_map(urls).find_map(|url| outside.downgrade_enabled(&url).ok()).unwrap_or(false);
    let next = ClusterVersion { minor: own.minor + 1, ..own };
    let (min, max) = if is_downgrade { (next, next) } else { (ClusterVersion::FIRST, own) };
    !versions.is_empty() && versions.iter().all(|version| (min..=max).contains(version))
}

/// A cluster as etcd shows it in that error.
fn show(cluster: ClusterId, members: &[Member]) -> String {
    let show = |member: &Member| {
        let Member { id, peer_urls, is_learner, attributes } = member;
        format!(
            "&{{ID:{id} RaftAttributes:{{PeerURLs:[{}] IsLearner:{is_learner}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            peer_urls.join(" "),
            attributes.name,
            attributes.client_urls.join(" ")
        )
    };
    let members: Vec<String> = members.iter().map(show).collect();
    format!("{{ClusterID:{cluster} Members:[{}] RemovedMemberIDs:[]}}", members.join(" "))
}

/// A removed member's data cannot become a cluster: its id may never return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--force-new-cluster: member {0} is not a member of the cluster that its data is of; take the data of one that was \
     not removed, or restore a backup"
)]
pub struct NotAMember(pub MemberId);

/// What to append to the log so that `own` is the only member when all of it is applied, and the hard state that commits
/// all of it. `membership` is as of `applied`; `tail` is what the log holds behind that.
///
/// The tail stays, also where it is not known to be committed: what is known trails what was acknowledged, and there is
/// nobody left who could say.
///
/// # Errors
/// If `own` is not a member when the tail is applied.
///
/// Source: etcd-io/etcd `etcdserver/raft.go` (`restartAsStandaloneNode`), which drops the tail.
pub fn standalone(
    own: MemberId,
    membership: &Membership,
    applied: (Index, Term),
    hard_state: HardState,
    tail: &[LogEntry],
    learners_max: usize,
) -> Result<(HardState, Vec<LogEntry>), NotAMember> {
    let mut membership = membership.clone();
    for entry in tail.iter().filter(|entry| entry.kind == EntryKind::ConfChange) {
        // What cannot be read or made changes nothing when it is applied either.
        if let Some(change) = machine::parse_conf_change(&entry.data) {
            let _ = membership.apply(change, learners_max);
        }
    }
    let is_learner = membership.member(own).ok_or(NotAMember(own))?.is_learner;
    // First of all there must be a voter: without any, raft could not go on to the next change.
    let mut changes: Vec<Change> = is_learner.then_some(Change::Promote(own)).into_iter().collect();
    let others = membership.members().map(|member| member.id).filter(|id| *id != own);
    changes.extend(others.map(Change::Remove));

    let (last, last_term) = tail.last().map_or(applied, |entry| (entry.index, entry.term));
    let term = hard_state.term.max(last_term);
    let entry = |(index, change): (u64, &Change)| {
        let data = machine::encode_conf_change(0, change);
        LogEntry { term, index: Index(index), kind: EntryKind::ConfChange, data }
    };
    let entries: Vec<LogEntry> = (last.0 + 1..).zip(&changes).map(entry).collect();
    let commit = entries.last().map_or(last, |entry| entry.index);
    let vote = if term == hard_state.term { hard_state.vote } else { MemberId(0) };
    Ok((HardState { term, vote, commit }, entries))
}

#[cfg(test)]
mod tests;
