//! Whether two lists of peer URLs lead to the same places.
//!
//! Texts are compared first. Only where they differ are host names resolved, so that a member whose flags agree letter
//! by letter starts without name service.
//!
//! Source: etcd-io/etcd `pkg/netutil/netutil.go`.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// Finds the addresses of a host name and port, or says why there are none.
pub type Resolve<'a> = &'a mut dyn FnMut(&str, u16) -> Result<Vec<SocketAddr>, String>;

/// How two lists differ. Shown in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlsDiffer {
    #[error("len({}) != len({})", go_list(left), go_list(right))]
    Count { left: Vec<String>, right: Vec<String> },
    /// One of each list that nothing in the other corresponds to, as they were resolved.
    #[error("resolved urls: {left:?} != {right:?}")]
    Places { left: String, right: String },
    #[error("failed to resolve {url:?} ({why})")]
    Unresolved { url: String, why: String },
}

/// Compares two lists, in any order. Names that mean several addresses agree if one of these is shared.
///
/// # Errors
/// The first difference.
pub fn compare_urls(left: &[String], right: &[String], resolve: Resolve<'_>) -> Result<(), UrlsDiffer> {
    let (left, right) = (sorted(left), sorted(right));
    if left.len() != right.len() {
        return Err(UrlsDiffer::Count { left, right });
    }
    if left == right {
        return Ok(());
    }
    let mut places = |urls: Vec<String>| urls.into_iter().map(|url| place(url, resolve)).collect::<Result<Vec<_>, _>>();
    let (left, mut right) = (places(left)?, places(right)?);
    let mut stray = None;
    for place in left {
        match right.iter().position(|other| place.meets(other)) {
            Some(found) => drop(right.swap_remove(found)),
            None => stray = stray.or(Some(place)),
        }
    }
    match (stray, right.into_iter().next()) {
        (Some(left), Some(right)) => Err(UrlsDiffer::Places { left: left.shown(), right: right.shown() }),
        _ => Ok(()),
    }
}

/// Whether two lists agree by their texts alone.
pub(crate) fn same_texts(left: &[String], right: &[String]) -> bool {
    sorted(left) == sorted(right)
}

fn sorted(urls: &[String]) -> Vec<String> {
    let mut urls = urls.to_vec();
    urls.sort();
    urls
}

/// A URL, and where it leads to.
struct Place {
    scheme: String,
    url: String,
    /// Empty for what is compared by its text: socket files and localhost.
    addresses: Vec<SocketAddr>,
}

impl Place {
    fn meets(&self, other: &Place) -> bool {
        self.url == other.url
            || self.scheme == other.scheme && self.addresses.iter().any(|address| other.addresses.contains(address))
    }

    fn shown(&self) -> String {
        self.addresses.first().map_or_else(|| self.url.clone(), |address| format!("{}://{address}", self.scheme))
    }
}

fn place(url: String, resolve: Resolve<'_>) -> Result<Place, UrlsDiffer> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", &url));
    let scheme = scheme.to_owned();
    let target = rest.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let addresses = match target {
        Some((host, port)) if scheme.starts_with("http") && host != "localhost" => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            match bare.parse::<IpAddr>() {
                Ok(ip) => vec![SocketAddr::new(ip, port)],
                Err(_) => resolve(bare, port).map_err(|why| UrlsDiffer::Unresolved { url: url.clone(), why })?,
            }
        }
        _ => Vec::new(),
    };
    Ok(Place { scheme, url, addresses })
}

fn go_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x` and `y` are one host of two addresses, seen in different order; `z` is another.
    fn names(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let ips: &[[u8; 4]] = match host {
            "x" => &[[10, 0, 0, 1], [10, 0, 0, 2]],
            "y" => &[[10, 0, 0, 2], [10, 0, 0, 3]],
            "z" => &[[10, 0, 0, 9]],
            _ => return Err(format!("lookup {host}: no such host")),
        };
        Ok(ips.iter().map(|ip| SocketAddr::new(IpAddr::from(*ip), port)).collect())
    }

    fn compare(left: &[&str], right: &[&str], resolve: Resolve<'_>) -> Result<(), String> {
        let owned = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        compare_urls(&owned(left), &owned(right), resolve).map_err(|differ| differ.to_string())
    }

    #[test]
    fn equal_texts_need_no_name_service() {
        let mut none = |host: &str, _: u16| panic!("{host} was looked up");
        assert_eq!(compare(&["http://q:1", "http://p:1"], &["http://p:1", "http://q:1"], &mut none), Ok(()));
        let numbers = compare(&["http://10.0.0.1:1"], &["http://10.0.0.2:1"], &mut none);
        assert_eq!(numbers, Err(r#"resolved urls: "http://10.0.0.1:1" != "http://10.0.0.2:1""#.to_owned()));
        assert_eq!(compare(&["http://[::1]:1"], &["http://[0::1]:1"], &mut none), Ok(()));
        // As in etcd, localhost is a name that is never looked up.
        let local = compare(&["http://localhost:1"], &["http://127.0.0.1:1"], &mut none);
        assert_eq!(local, Err(r#"resolved urls: "http://localhost:1" != "http://127.0.0.1:1""#.to_owned()));
        assert!(compare(&["unix:///a:1"], &["unix:///b:1"], &mut none).is_err());
    }

    #[test]
    fn names_agree_by_what_they_mean() {
        assert_eq!(compare(&["http://x:1"], &["http://10.0.0.2:1"], &mut names), Ok(()));
        assert_eq!(compare(&["http://x:1"], &["http://y:1"], &mut names), Ok(()));
        assert_eq!(compare(&["http://z:1", "http://x:1"], &["http://y:1", "http://10.0.0.9:1"], &mut names), Ok(()));
        assert!(compare(&["http://x:1"], &["http://y:2"], &mut names).is_err());
        assert!(compare(&["http://x:1"], &["https://x:1"], &mut names).is_err());
        let twice = compare(&["http://x:1", "http://z:1"], &["http://y:1", "http://10.0.0.1:1"], &mut names);
        assert_eq!(twice, Err(r#"resolved urls: "http://10.0.0.9:1" != "http://10.0.0.2:1""#.to_owned()));
    }

    #[test]
    fn differences_have_etcds_words() {
        let count = compare(&["http://a:1"], &["http://a:1", "http://b:1"], &mut names);
        assert_eq!(count, Err(r#"len(["http://a:1"]) != len(["http://a:1" "http://b:1"])"#.to_owned()));
        let unknown = compare(&["http://none:1"], &["http://x:1"], &mut names);
        let expected = r#"failed to resolve "http://none:1" (lookup none: no such host)"#;
        assert_eq!(unknown, Err(expected.to_owned()));
    }
}
