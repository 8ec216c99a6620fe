//! The version of the API that all members share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The cluster's version. Patch levels play no part: it is always written `X.Y.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    pub major: u32,
    pub minor: u32,
}

/// The text is not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a version: want major.minor.patch")]
pub struct ParseVersionError;

impl ClusterVersion {
    /// What a cluster has if nothing is known of its members.
    pub const FIRST: ClusterVersion = ClusterVersion { major: 3, minor: 0 };
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

impl FromStr for ClusterVersion {
    type Err = ParseVersionError;

    /// Reads `major.minor.patch`, where the patch may be missing and may carry `-pre` and `+build` marks.
    fn from_str(text: &str) -> Result<ClusterVersion, ParseVersionError> {
        let release = text.split(['-', '+']).next().unwrap_or_default();
        let mut numbers = release.split('.').map(|part| part.parse::<u32>().map_err(|_| ParseVersionError));
        let mut number = || numbers.next().unwrap_or(Err(ParseVersionError));
        let version = ClusterVersion { major: number()?, minor: number()? };
        match (numbers.next(), numbers.next()) {
            (None | Some(Ok(_)), None) => Ok(version),
            _ => Err(ParseVersionError),
        }
    }
}

/// A move of the whole cluster to an older version. Serialises to etcd's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    #[serde(default, rename = "target-version")]
    pub target_version: String,
    #[serde(default)]
    pub enabled: bool,
}

/// The version the leader should have the cluster agree on next, given the one it has and what its members, all of them,
/// say of themselves (`None`: no answer). `None` if it should stay as it is.
///
/// The first decision needs no answers. Later ones raise the version to the lowest of all members, or lower it by one
/// minor version where the operator has asked for exactly that.
///
/// Source: etcd-io/etcd `etcdserver/server.go` (`monitorVersions`), 3.6 `etcdserver/version/monitor.go`.
pub fn next_cluster_version(
    current: Option<ClusterVersion>,
    members: impl IntoIterator<Item = Option<ClusterVersion>>,
    downgrade: &Downgrade,
) -> Option<ClusterVersion> {
    let all = members.into_iter().collect::<Option<Vec<_>>>();
    let lowest = all.and_then(|versions| versions.into_iter().min());
    let Some(current) = current else { return Some(lowest.unwrap_or(ClusterVersion::FIRST)) };
    let lowest = lowest.filter(|version| version.major == current.major)?;
    let is_asked_for = || downgrade.enabled && downgrade.target_version.parse() == Ok(lowest);
    let is_lowered = lowest.minor + 1 == current.minor && is_asked_for();
    (lowest > current || is_lowered).then_some(lowest)
}

/// A server is older than what its cluster has agreed on: it would not understand what the others write. Shown in etcd's
/// words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid downgrade; server version is lower than determined cluster version ({own} < {cluster})")]
pub struct ServerTooOld {
    pub own: ClusterVersion,
    pub cluster: ClusterVersion,
}

/// Whether a server of `own` version may be a member of a cluster that has agreed on `cluster`: to be asked when a member
/// starts, and whenever the cluster's version has changed.
///
/// # Errors
/// If it is older, and no downgrade to just its version is under way.
///
/// Source: etcd-io/etcd `membership/downgrade.go` (`mustDetectDowngrade`).
pub fn check_server_version(
    own: ClusterVersion,
    cluster: Option<ClusterVersion>,
    downgrade: &Downgrade,
) -> Result<(), ServerTooOld> {
    let is_target = downgrade.enabled && downgrade.target_version.parse() == Ok(own);
    match cluster.filter(|cluster| own < *cluster && !is_target) {
        Some(cluster) => Err(ServerTooOld { own, cluster }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(current: &str, members: &[&str], downgrade: &str) -> String {
        let parse = |text: &&str| text.parse::<ClusterVersion>().ok();
        let downgrade = Downgrade { enabled: !downgrade.is_empty(), target_version: downgrade.to_owned() };
        let next = next_cluster_version(parse(&current), members.iter().map(parse), &downgrade);
        next.map_or_else(String::new, |version| version.to_string())
    }

    #[test]
    fn the_first_version_is_the_lowest_of_all_or_the_first_there_was() {
        assert_eq!(next("", &["3.5.30", "3.6.1"], ""), "3.5.0");
        assert_eq!(next("", &["3.5.30", "down"], ""), "3.0.0");
        assert_eq!(next("", &[], ""), "3.0.0");
    }

    #[test]
    fn a_version_is_raised_once_all_members_have_it() {
        assert_eq!(next("3.0.0", &["3.5.30", "3.5.29"], ""), "3.5.0");
        assert_eq!(next("3.5.0", &["3.6.1", "3.7.0"], ""), "3.6.0");
        assert_eq!(next("3.5.0", &["3.6.1", "down"], ""), "");
        assert_eq!(next("3.5.0", &["3.6.1", "3.5.30"], ""), "");
        assert_eq!(next("3.5.0", &["4.0.0"], ""), "");
    }

    #[test]
    fn a_version_is_lowered_only_by_one_and_when_asked_for() {
        assert_eq!(next("3.6.0", &["3.5.30", "3.6.1"], ""), "");
        assert_eq!(next("3.6.0", &["3.5.30", "3.6.1"], "3.5.0"), "3.5.0");
        assert_eq!(next("3.6.0", &["3.5.30", "down"], "3.5.0"), "");
        assert_eq!(next("3.6.0", &["3.4.1"], "3.4.0"), "");
        assert_eq!(next("3.6.0", &["3.6.1"], "3.5.0"), "");
    }

    #[test]
    fn a_server_that_is_too_old_for_its_cluster_is_refused() {
        let check = |own: &str, cluster: &str, downgrade: &str| {
            let downgrade = Downgrade { enabled: !downgrade.is_empty(), target_version: downgrade.to_owned() };
            let own = own.parse().expect("a version");
            check_server_version(own, cluster.parse().ok(), &downgrade).map_err(|error| error.to_string())
        };
        assert_eq!(check("3.5.30", "", ""), Ok(()));
        assert_eq!(check("3.5.30", "3.5.0", ""), Ok(()));
        assert_eq!(check("3.6.1", "3.5.0", ""), Ok(()));
        let refused = "invalid downgrade; server version is lower than determined cluster version (3.5.0 < 3.6.0)";
        assert_eq!(check("3.5.30", "3.6.0", ""), Err(refused.to_owned()));
        assert_eq!(check("3.5.30", "3.6.0", "3.5.0"), Ok(()));
        assert_eq!(check("3.5.30", "3.6.0", "3.4.0"), Err(refused.to_owned()));
    }

    #[test]
    fn versions_are_read_and_written() {
        for (text, read) in [("3.5.30", "3.5.0"), ("3.6", "3.6.0"), ("3.8.0-alpha.0", "3.8.0"), ("3.5.0+git", "3.5.0")]
        {
            assert_eq!(text.parse::<ClusterVersion>().unwrap().to_string(), read);
        }
        for text in ["", "3", "3.", "a.b", "3.5.x", "3.5.0.1", "-3.5"] {
            assert_eq!(text.parse::<ClusterVersion>(), Err(ParseVersionError), "{text}");
        }
    }
}
