use std::collections::{BTreeMap, BTreeSet};

use membership::Downgrade;

use super::*;

const OWN: ClusterVersion = ClusterVersion { major: 3, minor: 5 };

/// A network in which every URL has an answer or none, and `host` is at 10.0.0.1.
#[derive(Default)]
struct Net {
    members: BTreeMap<String, RemoteCluster>,
    versions: BTreeMap<String, Option<ClusterVersion>>,
    downgrade: bool,
    /// What was asked for members.
    asked: Vec<String>,
}

impl Outside for Net {
    fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        match host {
            "host" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
            _ => Err(format!("lookup {host}: no such host")),
        }
    }

    fn members(&mut self, urls: &[&str], _: Duration) -> Vec<Result<RemoteCluster, String>> {
        self.asked.extend(urls.iter().map(|url| (*url).to_owned()));
        let answer = |url: &&str| self.members.get(*url).cloned().ok_or_else(|| "connection refused".to_owned());
        urls.iter().map(answer).collect()
    }

    fn cluster_version(&mut self, url: &str) -> Result<Option<ClusterVersion>, String> {
        self.versions.get(url).copied().ok_or_else(|| "connection refused".to_owned())
    }

    fn downgrade_enabled(&mut self, _: &str) -> Result<bool, String> {
        Ok(self.downgrade)
    }
}

fn initial(pairs: &[(&str, &str)]) -> InitialCluster {
    InitialCluster::new("tok", pairs.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())))
}

fn three() -> InitialCluster {
    initial(&[("a", "http://127.0.0.1:22180"), ("b", "http://127.0.0.1:22280"), ("c", "http://127.0.0.1:22380")])
}

/// Begins as the member `c` of `initial`.
fn begin(initial: &InitialCluster, state: InitialState, net: &mut Net) -> Result<Bootstrap, BootstrapError> {
    let advertised = ["http://127.0.0.1:22380".to_owned()];
    Bootstrap::without_data(&Told { name: "c", advertised: &advertised, initial, state, version: OWN }, net)
}

fn member(id: u64, url: &str, has_run: bool) -> Member {
    let client_urls = if has_run { vec!["http://127.0.0.1:1".to_owned()] } else { Vec::new() };
    let attributes = Attributes { name: format!("m{id}"), client_urls };
    Member { id: MemberId(id), peer_urls: vec![url.to_owned()], is_learner: false, attributes }
}

/// The cluster of three, in which `c` is known by this member.
fn running(c: Member) -> RemoteCluster {
    let members = vec![member(7, "http://127.0.0.1:22180", true), c, member(5, "http://127.0.0.1:22280", true)];
    RemoteCluster { cluster: ClusterId(0xc), members }
}

fn net(remote: &RemoteCluster) -> Net {
    let mut net = Net::default();
    net.members.insert("http://127.0.0.1:22280".to_owned(), remote.clone());
    net.versions.insert("http://127.0.0.1:22280".to_owned(), Some(OWN));
    net
}

#[test]
fn founders_begin_alike() {
    let mut net = Net::default();
    let begun = begin(&three(), InitialState::New, &mut net).unwrap();
    let Bootstrap::NewCluster { cluster, member, hard_state, entries, members } = begun else { panic!("{begun:?}") };
    assert_eq!((cluster, member), (ClusterId(0x99dc_9d1f_5bc9_8315), MemberId(0x117b_9266_988c_4966)));
    assert_eq!(hard_state, HardState { term: Term(1), vote: MemberId(0), commit: Index(3) });
    for ((index, entry), member) in (1..).zip(&entries).zip(&members) {
        assert_eq!((entry.index, entry.term, entry.kind), (Index(index), Term(1), EntryKind::ConfChange));
        let nameless = Member { attributes: Attributes::default(), ..member.clone() };
        assert_eq!(machine::parse_conf_change(&entry.data), Some(Change::Add(nameless)));
    }
    assert!(members.is_sorted_by_key(|member| member.id));
    assert_eq!(net.asked, ["http://127.0.0.1:22180", "http://127.0.0.1:22280"]);

    // The others may be known by other names.
    let pairs = [("0", "http://127.0.0.1:22280"), ("a", "http://127.0.0.1:22180"), ("1", "http://127.0.0.1:22380")];
    let other = Told {
        name: "a",
        advertised: &["http://127.0.0.1:22180".to_owned()],
        initial: &initial(&pairs),
        state: InitialState::New,
        version: OWN,
    };
    let begun = Bootstrap::without_data(&other, &mut net).unwrap();
    let Bootstrap::NewCluster { entries: theirs, .. } = begun else { panic!("{begun:?}") };
    assert_eq!(theirs, entries);
}

#[test]
fn a_founder_that_has_run_before_is_refused() {
    let id = MemberId(0x117b_9266_988c_4966);
    let url = "http://127.0.0.1:22380";
    for (has_run, refused) in [(true, true), (false, false)] {
        let begun = begin(&three(), InitialState::New, &mut net(&running(member(id.0, url, has_run))));
        assert_eq!(begun.err(), refused.then_some(BootstrapError::AlreadyBootstrapped(id)));
    }
    assert_eq!(
        BootstrapError::AlreadyBootstrapped(id).to_string(),
        "member 117b9266988c4966 has already been bootstrapped"
    );
    // One that answers first may have been away when it ran.
    let mut net = net(&running(member(id.0, url, true)));
    net.members.insert("http://127.0.0.1:22180".to_owned(), running(member(id.0, url, false)));
    assert_eq!(begin(&three(), InitialState::New, &mut net), Err(BootstrapError::AlreadyBootstrapped(id)));
}

#[test]
fn one_that_joins_learns_who_it_is() {
    let there = running(member(3, "http://127.0.0.1:22380", false));
    let begun = begin(&three(), InitialState::Existing, &mut net(&there)).unwrap();
    let remotes = vec![there.members[2].clone(), there.members[0].clone()];
    assert_eq!(begun, Bootstrap::Join { cluster: ClusterId(0xc), member: MemberId(3), remotes });
}

#[test]
fn one_that_joins_need_not_advertise_what_is_listed_but_be_listed() {
    let there = running(member(3, "http://10.0.0.1:9", false));
    let by_name = initial(&[("a", "http://127.0.0.1:22180"), ("b", "http://127.0.0.1:22280"), ("c", "http://host:9")]);
    let begun = begin(&by_name, InitialState::Existing, &mut net(&there));
    assert!(matches!(begun, Ok(Bootstrap::Join { member: MemberId(3), .. })), "{begun:?}");
}

#[test]
fn one_that_lost_its_data_may_not_join_again() {
    let there = running(member(3, "http://127.0.0.1:22380", true));
    let begun = begin(&three(), InitialState::Existing, &mut net(&there));
    assert_eq!(begun, Err(BootstrapError::AlreadyBootstrapped(MemberId(3))));
    // One that answers first may have been away when it ran.
    let mut net = net(&there);
    net.members.insert("http://127.0.0.1:22180".to_owned(), running(member(3, "http://127.0.0.1:22380", false)));
    let begun = begin(&three(), InitialState::Existing, &mut net);
    assert_eq!(begun, Err(BootstrapError::AlreadyBootstrapped(MemberId(3))));
}

#[test]
fn the_first_that_answers_with_members_is_believed() {
    let there = running(member(3, "http://127.0.0.1:22380", false));
    let mut net = net(&there);
    let empty = RemoteCluster { cluster: ClusterId(9), members: Vec::new() };
    net.members.insert("http://127.0.0.1:22180".to_owned(), empty);
    let begun = begin(&three(), InitialState::Existing, &mut net);
    assert!(matches!(begun, Ok(Bootstrap::Join { cluster: ClusterId(0xc), .. })), "{begun:?}");
}

/// etcd asks only the first, and does not start.
#[test]
fn who_was_just_added_joins_though_the_first_does_not_know_it_yet() {
    let there = running(member(3, "http://127.0.0.1:22380", false));
    let mut net = net(&there);
    let behind = RemoteCluster { members: there.members[..1].to_vec(), ..there.clone() };
    net.members.insert("http://127.0.0.1:22180".to_owned(), behind);
    let begun = begin(&three(), InitialState::Existing, &mut net);
    assert!(matches!(begun, Ok(Bootstrap::Join { member: MemberId(3), .. })), "{begun:?}");
}

/// As an etcd 3.5.30 says it.
#[test]
fn what_contradicts_itself_or_the_others_is_refused_in_etcds_words() {
    let say = |initial: &InitialCluster, state, net: &mut Net| begin(initial, state, net).unwrap_err().to_string();
    let url = "http://127.0.0.1:22380";
    let without = initial(&[("a", "http://127.0.0.1:22180")]);
    for state in [InitialState::New, InitialState::Existing] {
        let said = say(&without, state, &mut Net::default());
        assert_eq!(said, r#"couldn't find local name "c" in the initial cluster configuration"#);
        let twice = initial(&[("a", url), ("c", url)]);
        let expected = "initial cluster a=http://127.0.0.1:22380,c=http://127.0.0.1:22380 has duplicate url";
        assert_eq!(say(&twice, state, &mut Net::default()), expected);
    }
    let elsewhere = initial(&[("c", "http://127.0.0.1:22480")]);
    let said = say(&elsewhere, InitialState::New, &mut Net::default());
    assert!(said.starts_with("--initial-cluster has c=http://127.0.0.1:22480 but missing from "), "{said}");

    let said = say(&three(), InitialState::Existing, &mut Net::default());
    assert_eq!(
        said,
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    );
    let two = RemoteCluster { cluster: ClusterId(0xc), members: vec![member(7, "http://127.0.0.1:22180", true)] };
    assert_eq!(
        say(&three(), InitialState::Existing, &mut net(&two)),
        "error validating peerURLs {ClusterID:c Members:[&{ID:7 RaftAttributes:{PeerURLs:[http://127.0.0.1:22180] \
         IsLearner:false} Attributes:{Name:m7 ClientURLs:[http://127.0.0.1:1]}}] RemovedMemberIDs:[]}: member count is \
         unequal"
    );
    let stranger = running(member(3, "http://127.0.0.1:22480", true));
    let said = say(&three(), InitialState::Existing, &mut net(&stranger));
    assert!(
        said.ends_with(
            r#": PeerURLs: no match found for existing member (3, [http://127.0.0.1:22480]), last resolver error (resolved urls: "http://127.0.0.1:22480" != "http://127.0.0.1:22380")"#
        ),
        "{said}"
    );
}

#[test]
fn a_cluster_of_another_version_is_not_joined() {
    let version = |minor| Some(ClusterVersion { major: 3, minor });
    for (versions, downgrade, joins) in [
        (vec![version(5)], false, true),
        (vec![version(0), None], false, true),
        (vec![version(5), version(6)], false, false),
        (vec![None, None], false, false),
        (vec![], false, false),
        (vec![version(6)], true, true),
        (vec![version(5)], true, false),
    ] {
        let mut net = net(&running(member(3, "http://127.0.0.1:22380", false)));
        net.downgrade = downgrade;
        let urls = ["http://127.0.0.1:22180", "http://127.0.0.1:22280"];
        net.versions = urls.iter().map(|url| (*url).to_owned()).zip(versions.clone()).collect();
        let begun = begin(&three(), InitialState::Existing, &mut net);
        assert_eq!(begun.err(), (!joins).then_some(BootstrapError::Incompatible), "{versions:?} {downgrade}");
    }
}

fn conf(index: u64, change: &Change) -> LogEntry {
    let data = machine::encode_conf_change(9, change);
    LogEntry { term: Term(2), index: Index(index), kind: EntryKind::ConfChange, data }
}

fn learner(id: u64, url: &str) -> Member {
    Member { is_learner: true, ..member(id, url, false) }
}

/// Applies what [`standalone`] wants behind `tail`, and returns who is left and the hard state.
fn alone(own: u64, members: Vec<Member>, tail: &[LogEntry]) -> Result<(Membership, HardState), NotAMember> {
    let before = Membership::new(members, BTreeSet::new(), None, Downgrade::default());
    let hard_state = HardState { term: Term(3), vote: MemberId(7), commit: Index(10) };
    let (after, entries) = standalone(MemberId(own), &before, (Index(10), Term(2)), hard_state, tail, 1)?;
    let mut membership = before;
    for (index, entry) in (11..).zip(tail.iter().chain(&entries)) {
        assert_eq!(entry.index, Index(index));
        assert!(entry.term <= after.term);
        let change = machine::parse_conf_change(&entry.data).expect("only such entries are made here");
        let made = membership.apply(change, 1);
        assert!(made.is_ok() || tail.contains(entry), "{made:?}");
        assert!(!membership.conf_state().voters.is_empty());
    }
    assert_eq!(after.commit, entries.last().or(tail.last()).map_or(Index(10), |entry| entry.index));
    Ok((membership, after))
}

#[test]
fn a_member_is_left_alone_whatever_the_tail_still_changes() {
    let members = || vec![member(1, "http://a:1", true), member(2, "http://b:1", true)];
    let tail = [
        conf(11, &Change::Add(member(4, "http://d:1", false))),
        // Refused when it is applied.
        conf(12, &Change::Add(member(5, "http://a:1", false))),
        conf(13, &Change::Add(learner(6, "http://f:1"))),
        conf(14, &Change::Remove(MemberId(2))),
    ];
    for length in 0..=tail.len() {
        let (membership, hard_state) = alone(1, members(), &tail[..length]).unwrap();
        let left: Vec<u64> = membership.members().map(|member| member.id.0).collect();
        assert_eq!((left, membership.conf_state().voters), (vec![1], vec![MemberId(1)]), "{length}");
        assert_eq!((hard_state.term, hard_state.vote), (Term(3), MemberId(7)));
        assert!(membership.is_removed(MemberId(2)));
    }
}

#[test]
fn a_learner_becomes_a_voter_before_the_voters_go() {
    let members = vec![member(1, "http://a:1", true), learner(2, "http://b:1")];
    let (membership, _) = alone(2, members, &[]).unwrap();
    assert_eq!(membership.conf_state().voters, [MemberId(2)]);
}

#[test]
fn one_that_is_alone_already_stays_as_it_is() {
    let before = Membership::new([member(1, "http://a:1", true)], [], None, Downgrade::default());
    let hard_state = HardState { term: Term(3), vote: MemberId(1), commit: Index(8) };
    let tail = [LogEntry { term: Term(3), index: Index(11), kind: EntryKind::Normal, data: [1].as_slice().into() }];
    let (after, entries) = standalone(MemberId(1), &before, (Index(10), Term(2)), hard_state, &tail, 1).unwrap();
    assert_eq!((after, entries), (HardState { commit: Index(11), ..hard_state }, Vec::new()));
}

#[test]
fn a_removed_member_does_not_come_back() {
    let tail = [conf(11, &Change::Remove(MemberId(1)))];
    let members = || vec![member(1, "http://a:1", true), member(2, "http://b:1", true)];
    assert_eq!(alone(1, members(), &tail).unwrap_err(), NotAMember(MemberId(1)));
    assert_eq!(alone(9, members(), &[]).unwrap_err(), NotAMember(MemberId(9)));
}
