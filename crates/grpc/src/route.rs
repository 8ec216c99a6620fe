//! Which method a path names.

use api::errors::Code;
use types::go_quote;

use crate::status::Status;

/// The methods that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    Alarm,
    Status,
    Hash,
    HashKv,
    Defragment,
    MoveLeader,
    HealthCheck,
    HealthList,
    HealthWatch,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
}

/// Methods of etcd that are known and not served yet, by path, and what they are called in the answer.
pub const NOT_YET: &[(&str, &str)] = &[
    ("/etcdserverpb.Auth/AuthEnable", "AuthEnable"),
    ("/etcdserverpb.Auth/AuthDisable", "AuthDisable"),
    ("/etcdserverpb.Auth/AuthStatus", "AuthStatus"),
    ("/etcdserverpb.Auth/Authenticate", "Authenticate"),
    ("/etcdserverpb.Auth/UserAdd", "UserAdd"),
    ("/etcdserverpb.Auth/UserGet", "UserGet"),
    ("/etcdserverpb.Auth/UserList", "UserList"),
    ("/etcdserverpb.Auth/UserDelete", "UserDelete"),
    ("/etcdserverpb.Auth/UserChangePassword", "UserChangePassword"),
    ("/etcdserverpb.Auth/UserGrantRole", "UserGrantRole"),
    ("/etcdserverpb.Auth/UserRevokeRole", "UserRevokeRole"),
    ("/etcdserverpb.Auth/RoleAdd", "RoleAdd"),
    ("/etcdserverpb.Auth/RoleGet", "RoleGet"),
    ("/etcdserverpb.Auth/RoleList", "RoleList"),
    ("/etcdserverpb.Auth/RoleDelete", "RoleDelete"),
    ("/etcdserverpb.Auth/RoleGrantPermission", "RoleGrantPermission"),
    ("/etcdserverpb.Auth/RoleRevokePermission", "RoleRevokePermission"),
    ("/etcdserverpb.Maintenance/Snapshot", "Snapshot"),
    ("/etcdserverpb.Maintenance/Downgrade", "Downgrade"),
];

/// How many messages a call of a method has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Unary,
    ServerStream,
    BidiStream,
}

impl CallKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            CallKind::Unary => "unary",
            CallKind::ServerStream => "server_stream",
            CallKind::BidiStream => "bidi_stream",
        }
    }
}

/// A method as metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: CallKind,
}

/// A method's place in [`METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MethodId(pub(crate) usize);

const fn method(service: &'static str, name: &'static str, kind: CallKind) -> Method {
    Method { service, name, kind }
}

/// Every method: those that are served, in the order of [`Route`], then those of [`NOT_YET`], in theirs.
#[rustfmt::skip] // one row is one method
pub(crate) static METHODS: [Method; 52] = [
    method("etcdserverpb.KV", "Range", CallKind::Unary),
    method("etcdserverpb.KV", "RangeStream", CallKind::ServerStream),
    method("etcdserverpb.KV", "Put", CallKind::Unary),
    method("etcdserverpb.KV", "DeleteRange", CallKind::Unary),
    method("etcdserverpb.KV", "Txn", CallKind::Unary),
    method("etcdserverpb.KV", "Compact", CallKind::Unary),
    method("etcdserverpb.Watch", "Watch", CallKind::BidiStream),
    method("etcdserverpb.Lease", "LeaseGrant", CallKind::Unary),
    method("etcdserverpb.Lease", "LeaseRevoke", CallKind::Unary),
    method("etcdserverpb.Lease", "LeaseKeepAlive", CallKind::BidiStream),
    method("etcdserverpb.Lease", "LeaseTimeToLive", CallKind::Unary),
    method("etcdserverpb.Lease", "LeaseLeases", CallKind::Unary),
    method("etcdserverpb.Cluster", "MemberList", CallKind::Unary),
    method("etcdserverpb.Cluster", "MemberAdd", CallKind::Unary),
    method("etcdserverpb.Cluster", "MemberRemove", CallKind::Unary),
    method("etcdserverpb.Cluster", "MemberUpdate", CallKind::Unary),
    method("etcdserverpb.Cluster", "MemberPromote", CallKind::Unary),
    method("etcdserverpb.Maintenance", "Alarm", CallKind::Unary),
    method("etcdserverpb.Maintenance", "Status", CallKind::Unary),
    method("etcdserverpb.Maintenance", "Hash", CallKind::Unary),
    method("etcdserverpb.Maintenance", "HashKV", CallKind::Unary),
    method("etcdserverpb.Maintenance", "Defragment", CallKind::Unary),
    method("etcdserverpb.Maintenance", "MoveLeader", CallKind::Unary),
    method("grpc.health.v1.Health", "Check", CallKind::Unary),
    method("grpc.health.v1.Health", "List", CallKind::Unary),
    method("grpc.health.v1.Health", "Watch", CallKind::ServerStream),
    method("v3lockpb.Lock", "Lock", CallKind::Unary),
    method("v3lockpb.Lock", "Unlock", CallKind::Unary),
    method("v3electionpb.Election", "Campaign", CallKind::Unary),
    method("v3electionpb.Election", "Proclaim", CallKind::Unary),
    method("v3electionpb.Election", "Leader", CallKind::Unary),
    method("v3electionpb.Election", "Observe", CallKind::ServerStream),
    method("v3electionpb.Election", "Resign", CallKind::Unary),
    method("etcdserverpb.Auth", "AuthEnable", CallKind::Unary),
    method("etcdserverpb.Auth", "AuthDisable", CallKind::Unary),
    method("etcdserverpb.Auth", "AuthStatus", CallKind::Unary),
    method("etcdserverpb.Auth", "Authenticate", CallKind::Unary),
    method("etcdserverpb.Auth", "UserAdd", CallKind::Unary),
    method("etcdserverpb.Auth", "UserGet", CallKind::Unary),
    method("etcdserverpb.Auth", "UserList", CallKind::Unary),
    method("etcdserverpb.Auth", "UserDelete", CallKind::Unary),
    method("etcdserverpb.Auth", "UserChangePassword", CallKind::Unary),
    method("etcdserverpb.Auth", "UserGrantRole", CallKind::Unary),
    method("etcdserverpb.Auth", "UserRevokeRole", CallKind::Unary),
    method("etcdserverpb.Auth", "RoleAdd", CallKind::Unary),
    method("etcdserverpb.Auth", "RoleGet", CallKind::Unary),
    method("etcdserverpb.Auth", "RoleList", CallKind::Unary),
    method("etcdserverpb.Auth", "RoleDelete", CallKind::Unary),
    method("etcdserverpb.Auth", "RoleGrantPermission", CallKind::Unary),
    method("etcdserverpb.Auth", "RoleRevokePermission", CallKind::Unary),
    method("etcdserverpb.Maintenance", "Snapshot", CallKind::ServerStream),
    method("etcdserverpb.Maintenance", "Downgrade", CallKind::Unary),
];

const SERVICES: [&str; 9] = [
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
    "grpc.health.v1.Health",
];

impl Route {
    pub(crate) fn id(self) -> MethodId {
        MethodId(self as usize)
    }

    /// The method that `path` names, query and all.
    ///
    /// # Errors
    /// UNIMPLEMENTED with grpc-go's text, or one that names what is not served yet.
    pub(crate) fn parse(path: &str) -> Result<Route, Status> {
        // The most frequent first.
        let route = match path {
            "/etcdserverpb.KV/Range" => Route::Range,
            "/etcdserverpb.KV/Put" => Route::Put,
            "/etcdserverpb.KV/Txn" => Route::Txn,
            "/etcdserverpb.KV/DeleteRange" => Route::DeleteRange,
            "/etcdserverpb.KV/Compact" => Route::Compact,
            "/etcdserverpb.KV/RangeStream" => Route::RangeStream,
            "/etcdserverpb.Watch/Watch" => Route::Watch,
            "/etcdserverpb.Lease/LeaseGrant" => Route::LeaseGrant,
            "/etcdserverpb.Lease/LeaseRevoke" => Route::LeaseRevoke,
            "/etcdserverpb.Lease/LeaseKeepAlive" => Route::LeaseKeepAlive,
            "/etcdserverpb.Lease/LeaseTimeToLive" => Route::LeaseTimeToLive,
            "/etcdserverpb.Lease/LeaseLeases" => Route::LeaseLeases,
            "/etcdserverpb.Cluster/MemberList" => Route::MemberList,
            "/etcdserverpb.Cluster/MemberAdd" => Route::MemberAdd,
            "/etcdserverpb.Cluster/MemberRemove" => Route::MemberRemove,
            "/etcdserverpb.Cluster/MemberUpdate" => Route::MemberUpdate,
            "/etcdserverpb.Cluster/MemberPromote" => Route::MemberPromote,
            "/etcdserverpb.Maintenance/Alarm" => Route::Alarm,
            "/etcdserverpb.Maintenance/Status" => Route::Status,
            "/etcdserverpb.Maintenance/Hash" => Route::Hash,
            "/etcdserverpb.Maintenance/HashKV" => Route::HashKv,
            "/etcdserverpb.Maintenance/Defragment" => Route::Defragment,
            "/etcdserverpb.Maintenance/MoveLeader" => Route::MoveLeader,
            "/grpc.health.v1.Health/Check" => Route::HealthCheck,
            "/grpc.health.v1.Health/List" => Route::HealthList,
            "/grpc.health.v1.Health/Watch" => Route::HealthWatch,
            "/v3lockpb.Lock/Lock" => Route::Lock,
            "/v3lockpb.Lock/Unlock" => Route::Unlock,
            "/v3electionpb.Election/Campaign" => Route::Campaign,
            "/v3electionpb.Election/Proclaim" => Route::Proclaim,
            "/v3electionpb.Election/Leader" => Route::Leader,
            "/v3electionpb.Election/Observe" => Route::Observe,
            "/v3electionpb.Election/Resign" => Route::Resign,
            _ => return Err(unserved(path)),
        };
        Ok(route)
    }
}

impl MethodId {
    /// A method that is known and not served yet.
    pub(crate) fn not_yet(path: &str) -> Option<MethodId> {
        let place = NOT_YET.iter().position(|(known, _)| *known == path)?;
        Some(MethodId(METHODS.len() - NOT_YET.len() + place))
    }
}

fn unserved(path: &str) -> Status {
    let text = if let Some((_, name)) = NOT_YET.iter().find(|(known, _)| *known == path) {
        format!("quorate: {name} is not implemented yet")
    } else if let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') {
        match SERVICES.contains(&service) {
            true => format!("unknown method {method} for service {service}"),
            false => format!("unknown service {service}"),
        }
    } else {
        format!("malformed method name: {}", go_quote(path))
    };
    Status::new(Code::Unimplemented, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        let status = Route::parse(path).unwrap_err();
        assert_eq!(status.code, Code::Unimplemented);
        status.text.into_owned()
    }

    #[test]
    fn unknown_paths_get_grpc_gos_texts() {
        assert_eq!(refusal("/etcdserverpb.KV/Nope"), "unknown method Nope for service etcdserverpb.KV");
        assert_eq!(refusal("/etcdserverpb.KV/Put?x=1"), "unknown method Put?x=1 for service etcdserverpb.KV");
        assert_eq!(refusal("/foo.Bar/Nope"), "unknown service foo.Bar");
        assert_eq!(refusal("/foo"), "malformed method name: \"/foo\"");
        assert_eq!(refusal("/"), "malformed method name: \"/\"");
    }

    #[test]
    fn what_is_not_there_yet_is_named() {
        assert_eq!(refusal("/etcdserverpb.Maintenance/Snapshot"), "quorate: Snapshot is not implemented yet");
        for (path, name) in NOT_YET {
            let (service, method) = path[1..].rsplit_once('/').unwrap();
            assert!(SERVICES.contains(&service) && method == *name, "{path}");
        }
    }

    #[test]
    fn methods_are_numbered_as_they_are_listed() {
        for (number, method) in METHODS.iter().enumerate() {
            let path = format!("/{}/{}", method.service, method.name);
            let id = Route::parse(&path).map_or_else(|_| MethodId::not_yet(&path), |route| Some(route.id()));
            assert_eq!(id, Some(MethodId(number)), "{path}");
        }
    }

    /// Every method of the .proto files is served or listed as not there yet.
    #[test]
    fn every_method_of_the_api_is_known() {
        let mut methods = 0;
        for proto in [
            include_str!("../../api/proto/rpc.proto"),
            include_str!("../../api/proto/v3lockpb.proto"),
            include_str!("../../api/proto/v3electionpb.proto"),
            include_str!("../../api/proto/health.proto"),
        ] {
            let package = proto.lines().find_map(|line| line.strip_prefix("package ")).unwrap().trim_end_matches(';');
            let mut service = "";
            for line in proto.lines() {
                if let Some(rest) = line.strip_prefix("service ") {
                    service = rest.trim_end_matches([' ', '{']);
                }
                if let Some(rest) = line.trim().strip_prefix("rpc ") {
                    let path = format!("/{package}.{service}/{}", rest.split('(').next().unwrap());
                    let listed = NOT_YET.iter().any(|(known, _)| *known == path);
                    assert_ne!(Route::parse(&path).is_ok(), listed, "{path}");
                    let (asks, answers) = line.split_once("returns").unwrap();
                    let kind = match (asks.contains("stream "), answers.contains("stream ")) {
                        (false, false) => CallKind::Unary,
                        (false, true) => CallKind::ServerStream,
                        (true, true) => CallKind::BidiStream,
                        (true, false) => panic!("there is no such method"),
                    };
                    let name = path.rsplit('/').next().unwrap();
                    let of_service = format!("{package}.{service}");
                    let method = METHODS.iter().find(|method| method.service == of_service && method.name == name);
                    assert_eq!(method.map(|method| method.kind), Some(kind), "{path}");
                    methods += 1;
                }
            }
        }
        assert_eq!(methods, 52);
    }
}
