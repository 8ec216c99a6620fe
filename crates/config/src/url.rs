//! The URLs of listeners and members: `http://host:port`, `unix:///path`, and their TLS forms.

use std::fmt;
use std::path::{Path, PathBuf};

use types::go_quote;

/// An address to listen on or to be reached at. Ordered and compared by its text, as etcd does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    text: String,
    tls: bool,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

/// A text is not a URL that can be used here; shows etcd's words for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl Url {
    /// Reads one URL. White space around it is dropped.
    ///
    /// # Errors
    /// If the scheme is not one of http, https, unix and unixs, if a host or port is missing, or if there is more to the
    /// URL than that.
    ///
    /// Source: etcd-io/etcd `client/pkg/types/urls.go`; Go's `net/url` for the words on what is no URL at all.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let fault = |what: &str| UrlError(format!("parse {}: {what}", go_quote(text)));
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(fault("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = split_scheme(text).map_err(fault)?;
        if scheme.is_empty() && rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(fault("first path segment in URL cannot contain colon"));
        }
        let scheme = scheme.to_ascii_lowercase();
        let tls = matches!(scheme.as_str(), "https" | "unixs");
        let place = match scheme.as_str() {
            "http" | "https" => tcp_place(text, rest)?,
            "unix" | "unixs" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return Err(UrlError(format!("URL must name a socket file: {text}")));
                }
                Place::Socket(PathBuf::from(path))
            }
            _ => return Err(UrlError(format!("URL scheme must be http, https, unix, or unixs: {text}"))),
        };
        Ok(Url { text: format!("{scheme}:{rest}"), tls, place })
    }

    /// Reads a comma-separated list; sorted, each URL once. An empty text is an empty list.
    ///
    /// # Errors
    /// For the first part that [`Url::parse`] refuses.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// The plain-text URL of a host (an IPv6 address without brackets) and a port.
    pub fn http(host: &str, port: u16) -> Url {
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        Url { text: format!("http://{shown}:{port}"), tls: false, place: Place::Tcp { host: host.to_string(), port } }
    }

    /// Whether the scheme asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host, an IPv6 address without its brackets; `None` for a socket file.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Tcp { host, .. } => Some(host),
            Place::Socket(_) => None,
        }
    }

    /// The port, 0 if it is left open; `None` for a socket file.
    pub fn port(&self) -> Option<u16> {
        match &self.place {
            Place::Tcp { port, .. } => Some(*port),
            Place::Socket(_) => None,
        }
    }

    /// The path of a socket file; `None` for host and port.
    pub fn socket_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Socket(path) => Some(path),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Several URLs as one comma-separated text.
pub(crate) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

/// Scheme (empty if there is none) and what follows its colon.
fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn tcp_place(text: &str, rest: &str) -> Result<Place, UrlError> {
    let no_address = || UrlError(format!("URL address does not have the form \"host:port\": {text}"));
    let rest = rest.strip_prefix("//").ok_or_else(no_address)?;
    let (address, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = split_address(address).ok_or_else(no_address)?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlError(format!(
            "parse {}: invalid port {} after host",
            go_quote(text),
            go_quote(format!(":{port}"))
        )));
    }
    if host.contains('@') {
        return Err(UrlError(format!("URL must not contain a user: {text}")));
    }
    match tail.as_bytes().first() {
        None => {}
        Some(b'/') => return Err(UrlError(format!("URL must not contain a path: {text}"))),
        Some(_) => return Err(UrlError(format!("URL must not contain a query or fragment: {text}"))),
    }
    let port = if port.is_empty() { Ok(0) } else { port.parse() };
    let port = port.map_err(|_| UrlError(format!("URL port must be at most 65535: {text}")))?;
    Ok(Place::Tcp { host: host.to_string(), port })
}

/// Host and port of `host:port` or `[v6]:port`.
fn split_address(address: &str) -> Option<(&str, &str)> {
    if let Some(bracketed) = address.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']')?;
        return Some((host, after.strip_prefix(':')?));
    }
    let (host, port) = address.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url = Url::parse(" http://127.0.0.1:2379 ").unwrap();
        assert_eq!((url.host(), url.port(), url.is_tls()), (Some("127.0.0.1"), Some(2379), false));
        let url = Url::parse("HTTPS://[::1]:2379").unwrap();
        assert_eq!((url.host(), url.port(), url.is_tls()), (Some("::1"), Some(2379), true));
        assert_eq!(url.to_string(), "https://[::1]:2379");
        let url = Url::parse("unix:///run/q.sock").unwrap();
        assert_eq!(url.socket_path(), Some(Path::new("/run/q.sock")));
        assert_eq!(Url::parse("unix://localhost:1").unwrap().socket_path(), Some(Path::new("localhost:1")));
        assert_eq!(Url::http("::1", 1), Url::parse("http://[::1]:1").unwrap());
    }

    #[test]
    fn faults_have_etcds_words() {
        for (text, want) in [
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("ftp://1.2.3.4:5", "URL scheme must be http, https, unix, or unixs: ftp://1.2.3.4:5"),
            ("127.0.0.1:2379", r#"parse "127.0.0.1:2379": first path segment in URL cannot contain colon"#),
            (":1", r#"parse ":1": missing protocol scheme"#),
            ("http://127.0.0.1", r#"URL address does not have the form "host:port": http://127.0.0.1"#),
            ("http://::1:1", r#"URL address does not have the form "host:port": http://::1:1"#),
            ("http://127.0.0.1:abc", r#"parse "http://127.0.0.1:abc": invalid port ":abc" after host"#),
            ("http://127.0.0.1:1/", "URL must not contain a path: http://127.0.0.1:1/"),
            ("http://127.0.0.1:1?a", "URL must not contain a query or fragment: http://127.0.0.1:1?a"),
            ("http://a:b@127.0.0.1:1", r#"URL address does not have the form "host:port": http://a:b@127.0.0.1:1"#),
            ("http://a@127.0.0.1:1", "URL must not contain a user: http://a@127.0.0.1:1"),
            ("http://127.0.0.1:99999", "URL port must be at most 65535: http://127.0.0.1:99999"),
            ("unix://", "URL must name a socket file: unix://"),
            ("http://\x01:1", r#"parse "http://\x01:1": net/url: invalid control character in URL"#),
        ] {
            assert_eq!(Url::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn lists_are_sorted_and_hold_each_url_once() {
        let urls = Url::parse_list("http://b:1,http://a:1, http://b:1").unwrap();
        assert_eq!(join(&urls), "http://a:1,http://b:1");
        assert_eq!(Url::parse_list("").unwrap(), []);
        assert!(Url::parse_list("http://a:1,").is_err());
    }
}
