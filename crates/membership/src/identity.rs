//! How ids of members and clusters come about.

use sha1::{Digest, Sha1};
use types::{ClusterId, MemberId};

/// The id of a member with these peer URLs.
///
/// `token` is the cluster token for the members a cluster starts with. For one added later it is empty, and
/// `added_at` is the time in seconds since the Unix epoch, so that an id never returns.
pub fn member_id(peer_urls: &[String], token: &str, added_at: Option<u64>) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = added_at {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight_bytes(hash))
}

/// The id of a cluster that starts with these members.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<u64> = members.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    ClusterId(first_eight_bytes(hash))
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an etcd 3.5.30 with no flags but its addresses calls itself.
    #[test]
    fn ids_are_those_etcd_computes() {
        let member = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster", None);
        assert_eq!(member, MemberId(0x8e9e_05c5_2164_694d));
        assert_eq!(cluster_id([member]), ClusterId(0xcdf8_1819_4e3a_8c32));
    }

    #[test]
    fn order_of_urls_and_members_is_nothing() {
        let urls = |urls: [&str; 2]| urls.map(str::to_owned);
        let id = member_id(&urls(["http://a:1", "http://b:1"]), "t", Some(5));
        assert_eq!(id, member_id(&urls(["http://b:1", "http://a:1"]), "t", Some(5)));
        assert_ne!(id, member_id(&urls(["http://b:1", "http://a:1"]), "t", Some(6)));
        assert_eq!(cluster_id([MemberId(1), MemberId(2)]), cluster_id([MemberId(2), MemberId(1)]));
    }
}
