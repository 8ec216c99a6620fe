//! The members a cluster starts with, as its operators wrote them down.

use std::collections::BTreeSet;
use std::fmt;

/// The first members of a cluster, before any of them has an id: what `--initial-cluster` and its kin say.
///
/// Members are sorted by name, their URLs by text. Shown as etcd shows it: `a=http://h:1,a=http://h:2,b=http://i:1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    /// Goes into the ids of the members.
    pub token: String,
    members: Vec<InitialMember>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    pub name: String,
    pub peer_urls: Vec<String>,
}

impl InitialCluster {
    /// A cluster of the members that `pairs` of name and peer URL make up: a name that stands several times is one
    /// member with several URLs.
    pub fn new(token: impl Into<String>, pairs: impl IntoIterator<Item = (String, String)>) -> InitialCluster {
        let mut pairs: Vec<(String, String)> = pairs.into_iter().collect();
        pairs.sort();
        let mut members = Vec::<InitialMember>::new();
        for (name, url) in pairs {
            match members.last_mut().filter(|member| member.name == name) {
                Some(member) => member.peer_urls.push(url),
                None => members.push(InitialMember { name, peer_urls: vec![url] }),
            }
        }
        InitialCluster { token: token.into(), members }
    }

    /// Every member, in order of names.
    pub fn members(&self) -> &[InitialMember] {
        &self.members
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<&InitialMember> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Peer URLs of all members but the one of this name, sorted.
    pub fn urls_of_others(&self, name: &str) -> Vec<&str> {
        let others = self.members.iter().filter(|member| member.name != name);
        let mut urls: Vec<&str> = others.flat_map(|member| &member.peer_urls).map(String::as_str).collect();
        urls.sort_unstable();
        urls
    }

    /// Whether a URL stands twice, at two members or at one.
    pub fn has_duplicate_url(&self) -> bool {
        let mut seen = BTreeSet::new();
        !self.members.iter().flat_map(|member| &member.peer_urls).all(|url| seen.insert(url))
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.members.iter().flat_map(|member| member.peer_urls.iter().map(move |url| (&member.name, url)));
        for (number, (name, url)) in pairs.enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{name}={url}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(pairs: &[(&str, &str)]) -> InitialCluster {
        InitialCluster::new("t", pairs.iter().map(|(name, url)| (name.to_string(), url.to_string())))
    }

    #[test]
    fn a_name_that_stands_twice_is_one_member_with_two_urls() {
        let cluster = cluster(&[("b", "http://b:1"), ("a", "http://a:2"), ("a", "http://a:1")]);
        assert_eq!(cluster.to_string(), "a=http://a:1,a=http://a:2,b=http://b:1");
        assert_eq!(cluster.members().len(), 2);
        assert_eq!(cluster.member("a").unwrap().peer_urls, ["http://a:1", "http://a:2"]);
        assert_eq!(cluster.member("c"), None);
        assert_eq!(cluster.urls_of_others("b"), ["http://a:1", "http://a:2"]);
    }

    #[test]
    fn a_url_that_stands_twice_is_found_wherever_it_stands() {
        assert!(!cluster(&[("a", "http://a:1"), ("a", "http://a:2")]).has_duplicate_url());
        assert!(cluster(&[("a", "http://a:1"), ("b", "http://a:1")]).has_duplicate_url());
        assert!(cluster(&[("a", "http://a:1"), ("a", "http://a:1")]).has_duplicate_url());
    }
}
