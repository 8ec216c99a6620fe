//! From the members an operator wrote down to those of a new cluster, or to a place in one that is there.

use thiserror::Error;
use types::{ClusterId, InitialCluster, InitialMember, MemberId};

use crate::identity::{cluster_id, member_id};
use crate::member::{Attributes, Member};
use crate::peer_urls::{Resolve, UrlsDiffer, compare_urls, same_texts};

/// A new cluster: every one of its members computes the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCluster {
    pub cluster: ClusterId,
    /// In order of ids, which is that of the entries that add them; with names.
    pub members: Vec<Member>,
}

impl NewCluster {
    pub fn new(initial: &InitialCluster) -> NewCluster {
        let member = |member: &InitialMember| Member {
            id: member_id(&member.peer_urls, &initial.token, None),
            peer_urls: member.peer_urls.clone(),
            is_learner: false,
            attributes: Attributes { name: member.name.clone(), client_urls: Vec::new() },
        };
        let mut members: Vec<Member> = initial.members().iter().map(member).collect();
        members.sort_by_key(|member| member.id);
        NewCluster { cluster: cluster_id(members.iter().map(|member| member.id)), members }
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.attributes.name == name)
    }
}

/// The URLs a member advertises are not those the initial cluster has for it. Shown in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OwnUrlsError {
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={} ({why})",
        advertised.join(",")
    )]
    NotAdvertised { missing: String, advertised: Vec<String>, why: UrlsDiffer },
    #[error("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={advertised}")]
    NotListed { missing: String, advertised: String },
}

/// Checks that a member of the initial cluster is listed with the URLs that it advertises.
///
/// # Errors
/// The first URL on either side that the other lacks.
///
/// Source: etcd-io/etcd `server/config/config.go` (`advertiseMatchesCluster`).
pub fn check_own_urls(own: &InitialMember, advertised: &[String], resolve: Resolve<'_>) -> Result<(), OwnUrlsError> {
    let Err(why) = compare_urls(advertised, &own.peer_urls, resolve) else { return Ok(()) };
    let mut advertised = advertised.to_vec();
    advertised.sort();
    let named = |url: &String| format!("{}={url}", own.name);
    let missing: Vec<String> = own.peer_urls.iter().filter(|url| !advertised.contains(url)).map(named).collect();
    if !missing.is_empty() {
        return Err(OwnUrlsError::NotAdvertised { missing: missing.join(","), advertised, why });
    }
    let missing: Vec<_> = advertised.iter().filter(|url| !own.peer_urls.contains(url)).cloned().collect();
    let advertised = advertised.iter().map(named).collect::<Vec<_>>().join(",");
    Err(OwnUrlsError::NotListed { missing: missing.join(","), advertised })
}

/// Why an initial cluster is not that of the members which are there. Shown in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    #[error("member count is unequal")]
    Count,
    #[error(
        "PeerURLs: no match found for existing member ({id}, [{}]), last resolver error ({why})",
        peer_urls.join(" ")
    )]
    NoMatch { id: MemberId, peer_urls: Vec<String>, why: UrlsDiffer },
}

/// Which of a running cluster's members the one called `name` is to be. Members are told by their peer URLs; names play
/// no part.
///
/// # Errors
/// If the two lists of members are not the same.
///
/// Source: etcd-io/etcd `membership/cluster.go` (`ValidateClusterAndAssignIDs`).
pub fn find_own_id(
    initial: &InitialCluster,
    name: &str,
    existing: &[Member],
    resolve: Resolve<'_>,
) -> Result<MemberId, JoinError> {
    if initial.members().len() != existing.len() {
        return Err(JoinError::Count);
    }
    let mut unmatched: Vec<&InitialMember> = initial.members().iter().collect();
    let mut own = None;
    let mut take = |unmatched: &mut Vec<&InitialMember>, at: usize, id: MemberId| {
        if unmatched.swap_remove(at).name == name {
            own = Some(id);
        }
    };
    // Texts first, for all: of those left, some may have names that nobody can resolve now.
    let mut unfound = Vec::new();
    for member in existing {
        match unmatched.iter().position(|candidate| same_texts(&member.peer_urls, &candidate.peer_urls)) {
            Some(found) => take(&mut unmatched, found, member.id),
            None => unfound.push(member),
        }
    }
    for member in unfound {
        let mut why = None;
        let found = unmatched.iter().position(|candidate| {
            compare_urls(&member.peer_urls, &candidate.peer_urls, resolve).map_err(|differ| why = Some(differ)).is_ok()
        });
        let Some(found) = found else {
            let why = why.expect("as many are unmatched on either side, so one was compared");
            return Err(JoinError::NoMatch { id: member.id, peer_urls: member.peer_urls.clone(), why });
        };
        take(&mut unmatched, found, member.id);
    }
    Ok(own.expect("every member was matched, and the caller has looked for the name"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn unknown(host: &str, _: u16) -> Result<Vec<SocketAddr>, String> {
        Err(format!("lookup {host}: no such host"))
    }

    fn initial(token: &str, pairs: &[(&str, &str)]) -> InitialCluster {
        InitialCluster::new(token, pairs.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())))
    }

    const THREE: [(&str, &str); 3] =
        [("a", "http://127.0.0.1:22180"), ("b", "http://127.0.0.1:22280"), ("c", "http://127.0.0.1:22380")];

    /// What three etcd 3.5.30 with these flags call themselves.
    #[test]
    fn ids_of_three_are_those_etcd_computes() {
        let new = NewCluster::new(&initial("tok", &THREE));
        assert_eq!(new.cluster, ClusterId(0x99dc_9d1f_5bc9_8315));
        let ids: Vec<(u64, &str)> =
            new.members.iter().map(|member| (member.id.0, member.attributes.name.as_str())).collect();
        assert_eq!(ids, [(0x117b_9266_988c_4966, "c"), (0xa002_0cd3_657e_b6d9, "b"), (0xbf4d_70a0_c093_7328, "a")]);
        assert_eq!(new.member("b").unwrap().id, MemberId(0xa002_0cd3_657e_b6d9));
        assert_ne!(NewCluster::new(&initial("other", &THREE)).cluster, new.cluster);
    }

    fn own_urls(listed: &[&str], advertised: &[&str]) -> Result<(), String> {
        let owned = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let own = InitialMember { name: "m".to_owned(), peer_urls: owned(listed) };
        check_own_urls(&own, &owned(advertised), &mut unknown).map_err(|error| error.to_string())
    }

    /// As an etcd 3.5.30 says it.
    #[test]
    fn urls_that_are_not_ones_own_are_told_in_etcds_words() {
        assert_eq!(own_urls(&["http://h:1", "http://h:2"], &["http://h:2", "http://h:1"]), Ok(()));
        let other = own_urls(&["http://127.0.0.1:2380"], &["http://localhost:2380"]).unwrap_err();
        assert_eq!(
            other,
            r#"--initial-cluster has m=http://127.0.0.1:2380 but missing from --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: "http://localhost:2380" != "http://127.0.0.1:2380")"#
        );
        let more = own_urls(&["http://localhost:2380", "http://localhost:2381"], &["http://localhost:2380"]);
        assert_eq!(
            more.unwrap_err(),
            r#"--initial-cluster has m=http://localhost:2381 but missing from --initial-advertise-peer-urls=http://localhost:2380 (len(["http://localhost:2380"]) != len(["http://localhost:2380" "http://localhost:2381"]))"#
        );
        let fewer = own_urls(&["http://localhost:2380"], &["http://localhost:2380", "http://localhost:2381"]);
        assert_eq!(
            fewer.unwrap_err(),
            "--initial-advertise-peer-urls has http://localhost:2381 but missing from --initial-cluster=m=http://localhost:2380,m=http://localhost:2381"
        );
        let unresolved = own_urls(&["http://other.invalid:2380"], &["http://nohost.invalid:2380"]).unwrap_err();
        assert_eq!(
            unresolved,
            r#"--initial-cluster has m=http://other.invalid:2380 but missing from --initial-advertise-peer-urls=http://nohost.invalid:2380 (failed to resolve "http://nohost.invalid:2380" (lookup nohost.invalid: no such host))"#
        );
    }

    fn existing(urls: &[&str]) -> Vec<Member> {
        let member = |(at, url): (usize, &&str)| Member {
            id: MemberId(at as u64 + 1),
            peer_urls: url.split(',').map(str::to_owned).collect(),
            ..Member::default()
        };
        urls.iter().enumerate().map(member).collect()
    }

    #[test]
    fn a_member_finds_its_id_by_its_urls_whatever_the_names() {
        let there = existing(&["http://127.0.0.1:22380", "http://127.0.0.1:22180", "http://127.0.0.1:22280"]);
        let own = |name| find_own_id(&initial("t", &THREE), name, &there, &mut unknown).unwrap();
        assert_eq!((own("a"), own("b"), own("c")), (MemberId(2), MemberId(3), MemberId(1)));
        let two_urls = initial("t", &[("a", "http://10.0.0.1:1"), ("a", "http://10.0.0.2:1")]);
        let there = existing(&["http://10.0.0.2:1,http://10.0.0.1:1"]);
        assert_eq!(find_own_id(&two_urls, "a", &there, &mut unknown), Ok(MemberId(1)));
        let mut names = |_: &str, port: u16| Ok(vec![SocketAddr::from(([10, 0, 0, 7], port))]);
        let by_name = initial("t", &[("a", "http://one.example:1")]);
        assert_eq!(find_own_id(&by_name, "a", &existing(&["http://10.0.0.7:1"]), &mut names), Ok(MemberId(1)));
        // What agrees by its text is not resolved, whatever else must be.
        let mut asked = Vec::new();
        let mut some = |host: &str, port: u16| {
            asked.push(host.to_owned());
            Ok(vec![SocketAddr::from(([10, 0, 0, 7], port))])
        };
        let mixed = initial("t", &[("a", "http://one.example:1"), ("b", "http://down.example:1")]);
        let there = existing(&["http://10.0.0.7:1", "http://down.example:1"]);
        assert_eq!(find_own_id(&mixed, "a", &there, &mut some), Ok(MemberId(1)));
        assert_eq!(asked, ["one.example"]);
    }

    /// As an etcd 3.5.30 says it.
    #[test]
    fn another_list_of_members_is_told_in_etcds_words() {
        let say = |existing: &[Member]| {
            find_own_id(&initial("t", &THREE), "a", existing, &mut unknown).unwrap_err().to_string()
        };
        assert_eq!(say(&existing(&["http://127.0.0.1:22180"])), "member count is unequal");
        let other = existing(&["http://127.0.0.1:22180", "http://127.0.0.1:22280", "http://127.0.0.1:22480"]);
        assert_eq!(
            say(&other),
            r#"PeerURLs: no match found for existing member (3, [http://127.0.0.1:22480]), last resolver error (resolved urls: "http://127.0.0.1:22480" != "http://127.0.0.1:22380")"#
        );
    }
}
