//! How much memory a server has, by its own account.

use std::time::Duration;

use client::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const NAME: &str = "process_resident_memory_bytes";
const LIMIT: Duration = Duration::from_secs(10);

/// Reads it from `/metrics`.
///
/// # Errors
/// If the server does not say; the text tells why.
pub(super) async fn resident_bytes(endpoint: &Endpoint) -> Result<f64, String> {
    let (host, port) = endpoint.host_and_port().ok_or("metrics are read by TCP only")?;
    let page = timeout(LIMIT, fetch(host, port)).await.map_err(|_| format!("{}: no answer", endpoint.text()))?;
    let page = page.map_err(|error| format!("fetch error: {error}"))?;
    value(&page).ok_or_else(|| format!("could not find: {NAME}"))
}

async fn fetch(host: &str, port: u16) -> std::io::Result<String> {
    let mut socket = TcpStream::connect((host, port)).await?;
    socket.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n").as_bytes()).await?;
    let mut page = Vec::new();
    socket.read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn value(page: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(NAME)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_found_among_others() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE process_resident_memory_bytes gauge\n\
                    process_resident_memory_bytes_max 1\nprocess_resident_memory_bytes 2.048e+07\n";
        assert_eq!(value(page), Some(2.048e7));
        assert_eq!(value("HTTP/1.0 404 Not Found\r\n\r\n404 page not found\n"), None);
    }
}
