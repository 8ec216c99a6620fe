//! The network, as far as a member without data needs it: names, and the members that are there already.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use server::{ClusterVersion, Outside, RemoteCluster};

/// Name service may learn of a member only after it was started, as in Kubernetes.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
const RESOLVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Asks from the thread that starts the member.
pub(crate) struct Network {
    runtime: tokio::runtime::Runtime,
}

impl Network {
    pub(crate) fn new() -> io::Result<Network> {
        Ok(Network { runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()? })
    }
}

impl Outside for Network {
    fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        self.runtime.block_on(async {
            let mut why = "timed out".to_owned();
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, async {
                loop {
                    match tokio::net::lookup_host((host, port)).await {
                        Ok(addresses) => return addresses.collect(),
                        Err(error) => {
                            tracing::warn!(host, %error, "failed to resolve URL Host");
                            why = config::reason(&error);
                            // What getaddrinfo's errors begin with says nothing.
                            why = why.trim_start_matches("failed to lookup address information: ").to_owned();
                        }
                    }
                    tokio::time::sleep(RESOLVE_RETRY_INTERVAL).await;
                }
            });
            found.await.map_err(|_| format!("lookup {host}: {why}"))
        })
    }

    fn members(&mut self, url: &str, _: Duration) -> Result<RemoteCluster, String> {
        Err(format!("{url} is not asked yet: clusters of several members come later"))
    }

    fn cluster_version(&mut self, url: &str) -> Result<Option<ClusterVersion>, String> {
        Err(format!("{url} is not asked yet: clusters of several members come later"))
    }

    fn downgrade_enabled(&mut self, url: &str) -> Result<bool, String> {
        Err(format!("{url} is not asked yet: clusters of several members come later"))
    }
}
