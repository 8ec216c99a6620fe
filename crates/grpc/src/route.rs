//! Which method a path names.

use api::errors::Code;

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

fn unserved(path: &str) -> Status {
    let text = if let Some((_, name)) = NOT_YET.iter().find(|(known, _)| *known == path) {
        format!("quorate: {name} is not implemented yet")
    } else if let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') {
        match SERVICES.contains(&service) {
            true => format!("unknown method {method} for service {service}"),
            false => format!("unknown service {service}"),
        }
    } else {
        format!("malformed method name: {path:?}")
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
                    methods += 1;
                }
            }
        }
        assert_eq!(methods, 51);
    }
}
