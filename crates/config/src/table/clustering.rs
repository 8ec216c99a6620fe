//! Flags of the cluster: who its members are, how they find each other, how its history is cut.

use crate::flag::{Flag, Kind::*};

const VERSION_2: &str = "there is no discovery of version 2, nor in etcd from 3.7 on; use --discovery-endpoints and \
                         --discovery-token, or --discovery-srv";
const DISCOVERY_TLS: &str = "TLS towards the discovery service comes later";

#[rustfmt::skip] // one row is one flag
pub(super) static CLUSTERING: &[Flag] = &[
    Flag::new("initial-advertise-peer-urls", Urls, "http://localhost:2380",
        "The peer URLs of this member that others are told"),
    Flag::new("initial-cluster", Text, "",
        "The first members: name=url,name=url, a name with several URLs several times; empty means this member alone"),
    Flag::new("initial-cluster-state", Choice(&["new", "existing"]), "new",
        "Whether to found a cluster or to join one; without meaning once the member is one of its cluster"),
    Flag::new("initial-cluster-token", Text, "etcd-cluster",
        "A name that goes into the ids of a new cluster and its members"),
    Flag::new("advertise-client-urls", Urls, "http://localhost:2379",
        "The client URLs of this member that clients are told; required if --listen-client-urls is set"),
    Flag::new("strict-reconfig-check", Bool, "true",
        "Refuse membership changes that would cost the quorum"),
    Flag::new("pre-vote", Bool, "true",
        "Ask whether an election can be won before calling it"),
    Flag::new("auto-compaction-retention", Text, "0",
        "How much history the leader keeps when it compacts by itself: a duration, hours, or revisions; 0 means off"),
    Flag::new("auto-compaction-mode", Text, "periodic",
        "What the retention counts: `periodic` for time, `revision` for revisions"),
    Flag::new("max-learners", Int, "1",
        "How many learners the cluster may have; the same on all members").of("3.6+"),
    Flag::new("corrupt-check-time", Duration, "0s",
        "How often the leader compares the hash of its data with the others'; 0 means never").of("3.6+"),
    Flag::new("compact-hash-check-time", Duration, "1m",
        "How often the leader compares the hashes of compactions, if the gate CompactHashCheck is on").of("3.6+"),
    Flag::new("downgrade-check-time", Duration, "5s",
        "How often the state of a downgrade is looked at").of("3.6+").refused("downgrades come later"),
];

#[rustfmt::skip]
pub(super) static DISCOVERY: &[Flag] = &[
    Flag::new("discovery", Text, "",
        "The URL of a discovery service of version 2").of("3.6-").refused(VERSION_2),
    Flag::new("discovery-proxy", Text, "",
        "The HTTP proxy towards a discovery service of version 2").of("3.6-").refused(VERSION_2),
    Flag::new("discovery-fallback", Choice(&["exit", "proxy"]), "proxy",
        "What to do when discovery of version 2 fails").not_in_file()
        .no_meaning("there is no discovery of version 2 that could fail"),
    Flag::new("discovery-endpoints", List, "",
        "The discovery service: the host:port of members of an etcd cluster that is there already").of("3.6+")
        .at(&["discovery-config.endpoints", "discovery-config.client.endpoints"]),
    Flag::new("discovery-token", Text, "",
        "The name of the new cluster at the discovery service; under it, how many members it has must be written there").of("3.6+")
        .at(&["discovery-config.token"]),
    Flag::new("discovery-dial-timeout", Duration, "2s",
        "How long connecting to the discovery service may take").of("3.6+")
        .at(&["discovery-config.dial-timeout", "discovery-config.client.dial-timeout"]),
    Flag::new("discovery-request-timeout", Duration, "5s",
        "How long a request to the discovery service may take").of("3.6+")
        .at(&["discovery-config.request-timeout", "discovery-config.client.request-timeout"]),
    Flag::new("discovery-keepalive-time", Duration, "2s",
        "How often the discovery service is pinged").of("3.6+")
        .at(&["discovery-config.keepalive-time", "discovery-config.client.keepalive-time"]),
    Flag::new("discovery-keepalive-timeout", Duration, "6s",
        "How long the discovery service may take to answer a ping").of("3.6+")
        .at(&["discovery-config.keepalive-timeout", "discovery-config.client.keepalive-timeout"]),
    Flag::new("discovery-insecure-transport", Bool, "true",
        "Speak plain text to the discovery service").of("3.6+")
        .at(&["discovery-config.secure.insecure-transport", "discovery-config.client.secure.insecure-transport"])
        .refused(DISCOVERY_TLS),
    Flag::new("discovery-insecure-skip-tls-verify", Bool, "false",
        "Accept any certificate of the discovery service").of("3.6+")
        .at(&["discovery-config.secure.insecure-skip-tls-verify",
              "discovery-config.client.secure.insecure-skip-tls-verify"])
        .refused(DISCOVERY_TLS),
    Flag::new("discovery-cert", Text, "",
        "The certificate shown to the discovery service").of("3.6+")
        .at(&["discovery-config.secure.cert", "discovery-config.client.secure.cert"]).refused(DISCOVERY_TLS),
    Flag::new("discovery-key", Text, "",
        "The key of that certificate").of("3.6+")
        .at(&["discovery-config.secure.key", "discovery-config.client.secure.key"]).refused(DISCOVERY_TLS),
    Flag::new("discovery-cacert", Text, "",
        "The authorities that may vouch for the discovery service").of("3.6+")
        .at(&["discovery-config.secure.cacert", "discovery-config.client.secure.cacert"]).refused(DISCOVERY_TLS),
    Flag::new("discovery-user", Secret, "",
        "The user at the discovery service, with `:password` if need be").of("3.6+")
        .at(&["discovery-config.auth.username", "discovery-config.client.auth.username"]),
    Flag::new("discovery-password", Secret, "",
        "That user's password").of("3.6+")
        .at(&["discovery-config.auth.password", "discovery-config.client.auth.password"]),
    Flag::new("discovery-srv", Text, "",
        "The DNS domain whose SRV records list the first members, in place of --initial-cluster"),
    Flag::new("discovery-srv-name", Text, "",
        "What to append to the service name of those records: `_etcd-server-NAME`"),
];
