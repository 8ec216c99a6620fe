//! Where a peer is reached, and which of its addresses is tried next.

use std::net::IpAddr;

use crate::client::ClientError;

/// A peer URL taken apart. Only plain HTTP so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl PeerUrl {
    /// # Errors
    /// [`ClientError::Address`] for what cannot be dialled.
    pub(crate) fn parse(url: &str) -> Result<PeerUrl, ClientError> {
        let refused = |reason| ClientError::Address { url: url.to_owned(), reason };
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(refused("TLS between members is not supported yet")),
            Some(("unix" | "unixs", _)) => return Err(refused("unix sockets between members are not supported")),
            _ => return Err(refused("expected http://host:port")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or(refused("it names no port"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| refused("its port is no number"))?;
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(refused("expected http://host:port"));
        }
        Ok(PeerUrl { host: host.to_owned(), port })
    }

    /// As it stands in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The URLs of one peer, of which one is current until something fails there.
#[derive(Debug)]
pub(crate) struct Rotation {
    urls: Vec<String>,
    current: usize,
}

impl Rotation {
    pub(crate) fn new(urls: Vec<String>) -> Rotation {
        Rotation { urls, current: 0 }
    }

    pub(crate) fn replace(&mut self, urls: &[String]) {
        if self.urls != urls {
            *self = Rotation::new(urls.to_vec());
        }
    }

    pub(crate) fn current(&self) -> Option<&str> {
        self.urls.get(self.current).map(String::as_str)
    }

    /// Goes on to the next, unless somebody else did already.
    pub(crate) fn failed(&mut self, url: &str) {
        if self.current() == Some(url) {
            self.current = (self.current + 1) % self.urls.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parsed = |url| PeerUrl::parse(url).map(|url| (url.host.clone(), url.port, url.authority())).ok();
        assert_eq!(parsed("http://a.b:2380"), Some(("a.b".into(), 2380, "a.b:2380".into())));
        assert_eq!(parsed("http://10.0.0.1:1/"), Some(("10.0.0.1".into(), 1, "10.0.0.1:1".into())));
        assert_eq!(parsed("http://[::1]:2380"), Some(("::1".into(), 2380, "[::1]:2380".into())));
        for wrong in ["a:1", "http://a", "http://:1", "http://a:x", "http://a:99999", "https://a:1", "unix://a:1", ""] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_failure_moves_on_once() {
        let mut rotation = Rotation::new(vec!["a".into(), "b".into()]);
        assert_eq!(rotation.current(), Some("a"));
        rotation.failed("a");
        rotation.failed("a");
        assert_eq!(rotation.current(), Some("b"));
        rotation.replace(&["a".into(), "b".into()]);
        assert_eq!(rotation.current(), Some("b"));
        rotation.failed("b");
        assert_eq!(rotation.current(), Some("a"));
        rotation.replace(&[]);
        assert_eq!(rotation.current(), None);
        rotation.failed("a");
    }
}
