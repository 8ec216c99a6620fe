//! The network, as far as a member without data needs it: names, and the members that are there already.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use discovery::{NameServers, Registry, RegistryError, SrvRecord};
use server::{ClusterVersion, Outside, RemoteCluster};
use types::{InitialCluster, MemberId};

/// Name service may learn of a member only after it was started, as in Kubernetes.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
const RESOLVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long one member may take to say its version.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// What a member says while its cluster has no version.
const UNDECIDED: &str = "not_decided";

/// Asks from the thread that starts the member.
pub(crate) struct Network {
    /// Taken by `drop` only.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Network {
    /// Waits for nobody: a lookup that was given up goes on until name service has been given up, too, which is ten seconds.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Network {
    pub(crate) fn new() -> io::Result<Network> {
        Ok(Network { runtime: Some(tokio::runtime::Builder::new_current_thread().enable_all().build()?) })
    }

    fn wait_for<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until this is dropped").block_on(answer)
    }

    /// The system's name servers.
    pub(crate) fn name_servers(&self) -> NameServers {
        // Without a list, the machine itself is asked, as all programs do.
        NameServers::parse(&config::read_file(Path::new("/etc/resolv.conf")).unwrap_or_default())
    }

    pub(crate) fn srv(&self, servers: &NameServers, name: &str) -> Result<Vec<SrvRecord>, String> {
        self.wait_for(servers.srv(name))
    }

    /// See [`Registry::join`].
    pub(crate) fn register(
        &self,
        registry: &Registry,
        id: MemberId,
        own: &InitialCluster,
    ) -> Result<InitialCluster, RegistryError> {
        self.wait_for(registry.join(id, own))
    }

    /// The addresses of a host name as far as they are known now.
    pub(crate) fn resolve_now(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        self.wait_for(look_up(host, port))
    }
}

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => {
            // What getaddrinfo's errors begin with says nothing.
            let why = config::reason(&error);
            let why = why.trim_start_matches("failed to lookup address information: ");
            Err(format!("lookup {host}: {why}"))
        }
    }
}

impl Network {
    fn ask<T>(&self, answer: impl Future<Output = Result<T, peer::client::ClientError>>) -> Result<T, String> {
        self.wait_for(answer).map_err(|error| error.to_string())
    }
}

impl Outside for Network {
    fn resolve(&mut self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        self.wait_for(async {
            let mut last = format!("lookup {host}: timed out");
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, async {
                loop {
                    match look_up(host, port).await {
                        Ok(addresses) => return addresses,
                        Err(error) => {
                            tracing::warn!(host, error, "failed to resolve URL Host");
                            last = error;
                        }
                    }
                    tokio::time::sleep(RESOLVE_RETRY_INTERVAL).await;
                }
            });
            found.await.map_err(|_| last)
        })
    }

    fn members(&mut self, urls: &[&str], timeout: Duration) -> Vec<Result<RemoteCluster, String>> {
        let ask = |url: &&str| {
            let url = (*url).to_owned();
            tokio::spawn(async move {
                let (cluster, members) =
                    peer::client::get_members(&url, timeout).await.map_err(|error| error.to_string())?;
                Ok(RemoteCluster { cluster, members })
            })
        };
        self.wait_for(async {
            let mut answers = Vec::new();
            for asked in urls.iter().map(ask).collect::<Vec<_>>() {
                answers.push(asked.await.unwrap_or_else(|error| Err(error.to_string())));
            }
            answers
        })
    }

    fn cluster_version(&mut self, url: &str) -> Result<Option<ClusterVersion>, String> {
        let versions = self.ask(peer::client::get_version(url, ASK_TIMEOUT))?;
        if versions.cluster == UNDECIDED {
            return Ok(None);
        }
        versions.cluster.parse().map(Some).map_err(|error| format!("{}: {error}", versions.cluster))
    }

    fn downgrade_enabled(&mut self, url: &str) -> Result<bool, String> {
        self.ask(peer::client::downgrade_enabled(url, ASK_TIMEOUT))
    }
}
