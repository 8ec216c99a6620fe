//! Flags of TLS, of what browsers may do, and of users.

use crate::flag::{Flag, Kind::*};

const CLIENT_TLS: &str = "TLS for clients comes later; listen on http:// or unix:// URLs";
const PEER_TLS: &str = "TLS between members comes later; use http:// peer URLs, on a network that only members reach";
/// etcd passes over them, too, as long as the peer URLs are http.
const PEER_CERTIFICATES: &str =
    "members show no certificates, as their URLs are http:// (TLS between them comes later)";
const AUTH_LATER: &str = "users, roles and passwords come later";

#[rustfmt::skip] // one row is one flag
pub(super) static SECURITY: &[Flag] = &[
    Flag::new("cert-file", Text, "",
        "The certificate shown to clients").at(&["client-transport-security.cert-file"]).refused(CLIENT_TLS),
    Flag::new("key-file", Text, "",
        "The key of that certificate").at(&["client-transport-security.key-file"]).refused(CLIENT_TLS),
    Flag::new("client-cert-file", Text, "",
        "The certificate this server shows where it is the client")
        .at(&["client-transport-security.client-cert-file"]).refused(CLIENT_TLS),
    Flag::new("client-key-file", Text, "",
        "The key of that certificate").at(&["client-transport-security.client-key-file"]).refused(CLIENT_TLS),
    Flag::new("client-cert-auth", Bool, "false",
        "Demand a certificate of every client").at(&["client-transport-security.client-cert-auth"])
        .refused(CLIENT_TLS),
    Flag::new("client-crl-file", Text, "",
        "The list of revoked client certificates").not_in_file().refused(CLIENT_TLS),
    Flag::new("client-cert-allowed-hostname", List, "",
        "The names a client certificate may bear").at(&["client-transport-security.allowed-hostname"])
        .refused(CLIENT_TLS),
    Flag::new("trusted-ca-file", Text, "",
        "The authorities that may vouch for clients").at(&["client-transport-security.trusted-ca-file"])
        .refused(CLIENT_TLS),
    Flag::new("auto-tls", Bool, "false",
        "Show clients a certificate of our own making").at(&["client-transport-security.auto-tls"])
        .refused(CLIENT_TLS),
    Flag::new("peer-cert-file", Text, "",
        "The certificate shown to other members").at(&["peer-transport-security.cert-file"]).refused(PEER_TLS),
    Flag::new("peer-key-file", Text, "",
        "The key of that certificate").at(&["peer-transport-security.key-file"]).refused(PEER_TLS),
    Flag::new("peer-client-cert-file", Text, "",
        "The certificate shown where this member calls another")
        .at(&["peer-transport-security.client-cert-file"]).refused(PEER_TLS),
    Flag::new("peer-client-key-file", Text, "",
        "The key of that certificate").at(&["peer-transport-security.client-key-file"]).refused(PEER_TLS),
    Flag::new("peer-client-cert-auth", Bool, "false",
        "Demand a certificate of every member").at(&["peer-transport-security.client-cert-auth"])
        .refused(PEER_TLS),
    Flag::new("peer-trusted-ca-file", Text, "",
        "The authorities that may vouch for members").at(&["peer-transport-security.trusted-ca-file"])
        .refused(PEER_TLS),
    Flag::new("peer-cert-allowed-cn", List, "",
        "The common names a member's certificate may bear").at(&["peer-transport-security.allowed-cn"])
        .no_meaning(PEER_CERTIFICATES),
    Flag::new("peer-cert-allowed-hostname", List, "",
        "The names a member's certificate may bear").at(&["peer-transport-security.allowed-hostname"])
        .no_meaning(PEER_CERTIFICATES),
    Flag::new("peer-auto-tls", Bool, "false",
        "Show members a certificate of our own making").at(&["peer-transport-security.auto-tls"])
        .refused(PEER_TLS),
    Flag::new("peer-crl-file", Text, "",
        "The list of revoked member certificates").not_in_file().refused(PEER_TLS),
    Flag::new("peer-skip-client-san-verification", Bool, "false",
        "Do not look at the names in a calling member's certificate").of("3.6+")
        .at(&["peer-transport-security.skip-client-san-verification"]).refused(PEER_TLS),
    Flag::new("self-signed-cert-validity", Uint, "1",
        "For how many years certificates of our own making are valid").refused(CLIENT_TLS),
    Flag::new("cipher-suites", List, "",
        "The cipher suites to offer").refused(CLIENT_TLS),
    Flag::new("tls-min-version", Text, "TLS1.2",
        "The oldest TLS version to speak: TLS1.2 or TLS1.3").of("3.5.8+").refused(CLIENT_TLS),
    Flag::new("tls-max-version", Text, "",
        "The newest TLS version to speak; empty means the newest there is").of("3.5.8+").refused(CLIENT_TLS),
    Flag::new("cors", Origins, "*",
        "The web origins whose pages may call over HTTP/1.1; `*` allows all"),
    Flag::new("host-whitelist", List, "*",
        "The host names plain HTTP requests may be made to; `*`, or nothing, allows all"),
];

#[rustfmt::skip]
pub(super) static AUTH: &[Flag] = &[
    Flag::new("auth-token", Secret, "simple",
        "The kind of login token: `simple`, or `jwt,...`").refused_but(&["simple", ""], AUTH_LATER),
    Flag::new("bcrypt-cost", Uint, "10",
        "How costly it is to check a password: 4 to 31").refused(AUTH_LATER),
    Flag::new("auth-token-ttl", Uint, "300",
        "How many seconds a simple token is good for").refused(AUTH_LATER),
];
