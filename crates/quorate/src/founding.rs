//! What a member without data is to begin with.

use config::{Credentials, DiscoveryRegistry, DiscoverySrv, Notice, Problem, Settings, Url};
use discovery::srv::{self, Question};
use discovery::{Registry, RegistryError};
use server::{Bootstrap, BootstrapError, COMPATIBLE_VERSION, Outside, Told};
use types::InitialCluster;

use crate::outside::Network;
use crate::settings::initial_state;
use crate::start_failure::StartFailure;

/// The members the cluster starts with, or that the cluster to be joined has.
///
/// # Errors
/// If they are not found, or cannot be this member's.
pub(crate) fn initial_cluster(settings: &Settings, network: &mut Network) -> Result<InitialCluster, StartFailure> {
    let cluster = match (&settings.discovery_srv, &settings.discovery_registry) {
        (Some(srv), _) => by_name_service(settings, srv, network)?,
        (None, Some(registry)) => by_registry(settings, registry, network)?,
        (None, None) => settings.initial_cluster().map_err(StartFailure::Settings)?,
    };
    settings.check_initial_cluster(&cluster).map_err(StartFailure::Settings)?;
    settings.notes_on(&cluster).iter().for_each(Notice::log);
    Ok(cluster)
}

fn by_name_service(settings: &Settings, srv: &DiscoverySrv, network: &Network) -> Result<InitialCluster, StartFailure> {
    let DiscoverySrv { domain, service_name } = srv;
    let advertised = advertised(settings);
    let question = Question {
        domain,
        service_name,
        name: &settings.name,
        advertised: &advertised,
        token: &settings.initial_cluster_token,
    };
    let servers = network.name_servers();
    let cluster = srv::find(&question, &mut |name| network.srv(&servers, name), &mut |host, port| {
        network.resolve_now(host, port)
    })?;
    tracing::info!(%cluster, "got bootstrap from DNS for etcd-server");
    Ok(cluster)
}

/// Registers this member as what it advertises, and waits for the others.
fn by_registry(
    settings: &Settings,
    registry: &DiscoveryRegistry,
    network: &Network,
) -> Result<InitialCluster, StartFailure> {
    let advertised = advertised(settings);
    let id = server::member_id(&advertised, &registry.token, None);
    let pairs = advertised.into_iter().map(|url| (settings.name.clone(), url));
    let own = InitialCluster::new(registry.token.clone(), pairs);
    settings.check_initial_cluster(&own).map_err(StartFailure::Settings)?;
    let registry = Registry {
        endpoints: registry.endpoints.clone(),
        token: registry.token.clone(),
        user: registry.user.clone().map(|Credentials { name, password }| (name, password)),
        dial_timeout: registry.dial_timeout,
        request_timeout: registry.request_timeout,
        keepalive_time: registry.keepalive_time,
        keepalive_timeout: registry.keepalive_timeout,
    };
    let cluster = network.register(&registry, id, &own)?;
    tracing::info!(%cluster, "got bootstrap from the discovery service");
    if cluster.has_duplicate_url() {
        return Err(RegistryError::DuplicateUrl(cluster).into());
    }
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
    Bootstrap::without_data(&told, outside).map_err(|error| StartFailure::Settings(why_not(settings, initial, &error)))
}

/// The problem with what to do about it.
fn why_not(settings: &Settings, initial: &InitialCluster, error: &BootstrapError) -> Problem {
    let hint = match error {
        BootstrapError::NameMissing(_) => "--name must be one of the names in --initial-cluster".to_owned(),
        BootstrapError::DuplicateUrl(_) => "give every member in --initial-cluster URLs of its own".to_owned(),
        BootstrapError::OwnUrls(_) => {
            "make --initial-advertise-peer-urls and this member's part of --initial-cluster the same".to_owned()
        }
        BootstrapError::AlreadyBootstrapped(member) => format!(
            "it has lost its data, or another data directory has it: start with that one, or remove member {member} from \
             the cluster, add it again, and start it without data and with --initial-cluster-state=existing"
        ),
        BootstrapError::NobodyAnswers => {
            let urls = initial.urls_of_others(&settings.name).join(" ");
            format!(
                "the members to join are looked for at {urls}; if there are none yet, write --initial-cluster-state=new"
            )
        }
        BootstrapError::OtherMembers { .. } => format!(
            "--initial-cluster has {initial}; list exactly the members that the cluster has, this one among them with the \
             peer URLs it was added with"
        ),
        BootstrapError::Incompatible => {
            format!("the members' versions must be {COMPATIBLE_VERSION} or older, and known")
        }
    };
    settings.cluster_problem(error.to_string(), &hint)
}

fn advertised(settings: &Settings) -> Vec<String> {
    settings.initial_advertise_peer_urls.iter().map(Url::to_string).collect()
}
