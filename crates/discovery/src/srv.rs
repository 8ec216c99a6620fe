//! From SRV records to the members of a cluster.
//!
//! Members are listed under `_etcd-server-ssl._tcp.DOMAIN` (https) and `_etcd-server._tcp.DOMAIN` (http); both count. A
//! record whose target is where this member is reached is this member and has its name; the others are numbered, for
//! names play no part in finding them.
//!
//! Source: etcd-io/etcd `client/pkg/srv/srv.go`, `server/embed/config.go` (`GetDNSClusterNames`).

use std::net::SocketAddr;

use types::InitialCluster;

use crate::name_servers::SrvRecord;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub domain: &'a str,
    /// Tells several clusters of one domain apart; may be empty.
    pub service_name: &'a str,
    /// This member.
    pub name: &'a str,
    /// The peer URLs that it advertises.
    pub advertised: &'a [String],
    /// Of the cluster.
    pub token: &'a str,
}

/// Asks for SRV records by name.
pub type LookUp<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<SrvRecord>, String>;
/// Asks for the addresses of a host and port.
pub type Resolve<'a> = &'a mut dyn FnMut(&str, u16) -> Result<Vec<SocketAddr>, String>;

/// Why no members were found. Shown in etcd's words where it knows the case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SrvError {
    #[error("error setting up initial cluster: {}", .0.join("; "))]
    NothingFound(Vec<String>),
    #[error("error setting up initial cluster: cannot find local etcd member {0:?} in SRV records")]
    NotListed(String),
}

/// Looks the members up, this one among them.
///
/// # Errors
/// [`SrvError`].
pub fn find(question: &Question<'_>, look_up: LookUp<'_>, resolve: Resolve<'_>) -> Result<InitialCluster, SrvError> {
    let own = own_places(question.advertised, resolve).map_err(|why| SrvError::NothingFound(vec![why]))?;
    let mut found = Found { question, own, pairs: Vec::new() };
    let mut problems = Vec::new();
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        if let Err(why) = found.take(scheme, service, look_up, resolve) {
            problems.push(why);
        }
    }
    if found.pairs.is_empty() {
        return Err(SrvError::NothingFound(problems));
    }
    let cluster = InitialCluster::new(question.token, found.pairs);
    match cluster.member(question.name) {
        Some(_) => Ok(cluster),
        None => Err(SrvError::NotListed(question.name.to_owned())),
    }
}

/// A URL this member advertises, and its addresses.
struct Place {
    scheme: String,
    url: String,
    addresses: Vec<SocketAddr>,
}

/// Where this member is reached. Socket files are in no name service.
fn own_places(advertised: &[String], resolve: Resolve<'_>) -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for url in advertised {
        let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("http")) else {
            continue;
        };
        let Some((host, port)) = rest.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) else {
            continue;
        };
        let addresses = resolve(host.trim_start_matches('[').trim_end_matches(']'), port)?;
        places.push(Place { scheme: scheme.to_owned(), url: url.clone(), addresses });
    }
    Ok(places)
}

struct Found<'a> {
    question: &'a Question<'a>,
    own: Vec<Place>,
    /// Names and URLs.
    pairs: Vec<(String, String)>,
}

impl Found<'_> {
    /// Adds what is listed under one service.
    ///
    /// # Errors
    /// Why there is nothing to add.
    fn take(&mut self, scheme: &str, service: &str, look_up: LookUp<'_>, resolve: Resolve<'_>) -> Result<(), String> {
        let suffix = if self.question.service_name.is_empty() { "" } else { "-" };
        let service = format!("_{service}{suffix}{}", self.question.service_name);
        let failed = |why: String| format!("error querying DNS SRV records for {service} {why}");
        let records = look_up(&format!("{service}._tcp.{}", self.question.domain)).map_err(failed)?;
        let before = self.pairs.len();
        let mut problem = "no such host".to_owned();
        for SrvRecord { target, port, .. } in records {
            let url = format!("{scheme}://{target}:{port}");
            // One whose address nobody knows yet may be about to start, but cannot be told from this member.
            let addresses = match resolve(&target, port) {
                Ok(addresses) => addresses,
                Err(why) => {
                    problem = why;
                    continue;
                }
            };
            let own = self.own.iter().find(|place| place.addresses.iter().any(|address| addresses.contains(address)));
            match own {
                Some(place) if place.scheme != scheme => {
                    problem = format!(
                        "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {}",
                        place.url
                    );
                }
                Some(_) => self.pairs.push((self.question.name.to_owned(), url)),
                None => self.pairs.push((self.free_name(), url)),
            }
        }
        if self.pairs.len() == before { Err(failed(problem)) } else { Ok(()) }
    }

    /// A number that is no member's name yet.
    fn free_name(&self) -> String {
        let is_free = |name: &String| *name != self.question.name && !self.pairs.iter().any(|(taken, _)| taken == name);
        (0..).map(|number: u64| number.to_string()).find(is_free).expect("names are fewer than numbers")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Hosts `h1` to `h9` are at 10.0.0.1 to 10.0.0.9.
    fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        match host.strip_prefix('h').or(host.strip_prefix("10.0.0.")).and_then(|number| number.parse().ok()) {
            Some(number) => Ok(vec![SocketAddr::from(([10, 0, 0, number], port))]),
            None => Err(format!("lookup {host}: no such host")),
        }
    }

    fn find_in(zone: &[(&str, &[(&str, u16)])], service_name: &str, advertised: &[&str]) -> Result<String, String> {
        let record =
            |(target, port): &(&str, u16)| SrvRecord { priority: 0, target: (*target).to_owned(), port: *port };
        let zone: BTreeMap<&str, Vec<SrvRecord>> =
            zone.iter().map(|(name, records)| (*name, records.iter().map(record).collect())).collect();
        let advertised: Vec<String> = advertised.iter().map(|url| (*url).to_owned()).collect();
        let question = Question { domain: "example.org", service_name, name: "m", advertised: &advertised, token: "t" };
        let mut look_up = |name: &str| zone.get(name).cloned().ok_or_else(|| format!("lookup {name}: no such host"));
        let found = find(&question, &mut look_up, &mut addresses);
        found.map(|cluster| cluster.to_string()).map_err(|error| error.to_string())
    }

    const PLAIN: &str = "_etcd-server._tcp.example.org";
    const TLS: &str = "_etcd-server-ssl._tcp.example.org";

    #[test]
    fn members_are_found_and_this_one_by_where_it_is_reached() {
        let zone = [(PLAIN, &[("h1", 2380), ("h2", 2380), ("h3", 2380)][..])];
        let want = "0=http://h1:2380,1=http://h3:2380,m=http://h2:2380";
        assert_eq!(find_in(&zone, "", &["http://h2:2380"]).as_deref(), Ok(want));
        assert_eq!(find_in(&zone, "", &["http://10.0.0.2:2380"]).as_deref(), Ok(want));
        let two = find_in(&zone, "", &["http://h2:2380", "http://h3:2380"]);
        assert_eq!(two.as_deref(), Ok("0=http://h1:2380,m=http://h2:2380,m=http://h3:2380"));
    }

    #[test]
    fn both_services_count_and_a_service_name_goes_with_both() {
        let zone = [(TLS, &[("h1", 2380)][..]), (PLAIN, &[("h2", 2380), ("h3", 2380)])];
        let want = "0=https://h1:2380,1=http://h3:2380,m=http://h2:2380";
        assert_eq!(find_in(&zone, "", &["http://h2:2380"]).as_deref(), Ok(want));
        let named = [("_etcd-server-x._tcp.example.org", &[("h2", 2380)][..]), (PLAIN, &[("h3", 2380)])];
        assert_eq!(find_in(&named, "x", &["http://h2:2380"]).as_deref(), Ok("m=http://h2:2380"));
    }

    #[test]
    fn records_that_lead_nowhere_are_passed_over() {
        let zone = [(PLAIN, &[("nowhere", 2380), ("h2", 2380)][..])];
        assert_eq!(find_in(&zone, "", &["http://h2:2380"]).as_deref(), Ok("m=http://h2:2380"));
    }

    #[test]
    fn what_is_not_found_is_told_in_etcds_words() {
        assert_eq!(
            find_in(&[], "", &["http://h2:2380"]).unwrap_err(),
            "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl lookup \
             _etcd-server-ssl._tcp.example.org: no such host; error querying DNS SRV records for _etcd-server lookup \
             _etcd-server._tcp.example.org: no such host"
        );
        let others = [(PLAIN, &[("h1", 2380), ("h2", 9)][..])];
        assert_eq!(
            find_in(&others, "", &["http://h2:2380"]).unwrap_err(),
            r#"error setting up initial cluster: cannot find local etcd member "m" in SRV records"#
        );
        let tls = [(TLS, &[("h2", 2380)][..])];
        assert_eq!(
            find_in(&tls, "", &["http://h2:2380"]).unwrap_err(),
            "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl bootstrap at \
             https://h2:2380 from DNS for _etcd-server-ssl has scheme mismatch with expected peer http://h2:2380; error \
             querying DNS SRV records for _etcd-server lookup _etcd-server._tcp.example.org: no such host"
        );
        assert_eq!(
            find_in(&others, "", &["http://nowhere:2380"]).unwrap_err(),
            "error setting up initial cluster: lookup nowhere: no such host"
        );
    }
}
