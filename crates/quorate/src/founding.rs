//! What a member without data is to begin with.

use config::{DiscoverySrv, Settings, Url};
use discovery::srv::{self, Question};
use server::{Bootstrap, COMPATIBLE_VERSION, Outside, Told};
use types::InitialCluster;

use crate::outside::Network;
use crate::settings::initial_state;
use crate::start_failure::StartFailure;

/// The members the cluster starts with, or that the cluster to be joined has.
///
/// # Errors
/// If they are not found, or cannot be this member's.
pub(crate) fn initial_cluster(settings: &Settings, network: &mut Network) -> Result<InitialCluster, StartFailure> {
    let Some(found_by) = &settings.discovery_srv else {
        return settings.initial_cluster().map_err(StartFailure::Settings);
    };
    let DiscoverySrv { domain, service_name } = found_by;
    let advertised = advertised(settings);
    let question = Question {
        domain,
        service_name,
        name: &settings.name,
        advertised: &advertised,
        token: &settings.initial_cluster_token,
    };
    let servers = network.name_servers()?;
    let cluster = srv::find(&question, &mut |name| network.srv(&servers, name), &mut |host, port| {
        network.resolve_now(host, port)
    })?;
    tracing::info!(%cluster, "got bootstrap from DNS for etcd-server");
    settings.check_initial_cluster(&cluster).map_err(StartFailure::Settings)?;
    Ok(cluster)
}

/// Whether to found `initial` or to join it, and as whom.
///
/// # Errors
/// If neither can be done.
pub(crate) fn decide(
    settings: &Settings,
    initial: &InitialCluster,
    outside: &mut dyn Outside,
) -> Result<Bootstrap, StartFailure> {
    let told = Told {
        name: &settings.name,
        advertised: &advertised(settings),
        initial,
        state: initial_state(settings),
        version: COMPATIBLE_VERSION.parse().expect("a version of etcd"),
    };
    Ok(Bootstrap::without_data(&told, outside)?)
}

fn advertised(settings: &Settings) -> Vec<String> {
    settings.initial_advertise_peer_urls.iter().map(Url::to_string).collect()
}
