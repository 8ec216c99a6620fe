//! Where a server is reached, as users write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One server: the text that named it and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    pub(crate) address: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// The host may be a name, which is looked up anew for every connection.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

/// Why a text names no server this client can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Host and port, if it is reached by TCP.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match &self.address {
            Address::Tcp { host, port } => Some((host, *port)),
            Address::Unix(_) => None,
        }
    }

    /// What requests call the server they go to.
    pub(crate) fn authority(&self) -> String {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `host:port`, `http://host:port` (a path behind it means nothing), `unix:path` or `unix://path`.
    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let address = if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            Address::Unix(PathBuf::from(path))
        } else if text.starts_with("https://") || text.starts_with("unixs:") {
            return Err(EndpointError(format!("endpoint {text}: TLS is not there yet")));
        } else {
            tcp(text.strip_prefix("http://").unwrap_or(text))
                .map_err(|why| EndpointError(format!("endpoint {text:?}: {why}")))?
        };
        Ok(Endpoint { text: text.to_owned(), address })
    }
}

fn tcp(text: &str) -> Result<Address, &'static str> {
    let place = text.split('/').next().unwrap_or_default();
    let (host, port) = place.rsplit_once(':').ok_or("the port is missing (write host:port)")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host,
        None if host.contains(':') => return Err("an IPv6 address stands in brackets ([::1]:2379)"),
        // As everywhere else, no host means this one.
        None if host.is_empty() => "localhost",
        None => host,
    };
    let port = port.parse().map_err(|_| "the port is not a number below 65536")?;
    Ok(Address::Tcp { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, EndpointError> {
        text.parse().map(|endpoint: Endpoint| endpoint.address)
    }

    #[test]
    fn endpoints_are_read_in_all_forms() {
        let tcp = |host: &str, port| Ok(Address::Tcp { host: host.to_owned(), port });
        assert_eq!(read("127.0.0.1:2379"), tcp("127.0.0.1", 2379));
        assert_eq!(read("http://etcd0:2379"), tcp("etcd0", 2379));
        assert_eq!(read("http://etcd0:2379/path"), tcp("etcd0", 2379));
        assert_eq!(read("[::1]:2379"), tcp("::1", 2379));
        assert_eq!(read(":2379"), tcp("localhost", 2379));
        assert_eq!(read("unix:///run/q.sock"), Ok(Address::Unix("/run/q.sock".into())));
        assert_eq!(read("unix:q.sock:0"), Ok(Address::Unix("q.sock:0".into())));
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in ["localhost", "localhost:", "localhost:70000", "::1:2379", "https://a:1", "unixs://a", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
