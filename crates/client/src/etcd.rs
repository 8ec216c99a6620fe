//! etcd's calls by name.

use api::etcdserverpb as pb;
use api::{health, v3electionpb as election, v3lockpb as lock};

use crate::{Client, Incoming, Status, Stream};

/// One method a unary RPC. What differs between them is a name, a path and two types.
macro_rules! unary {
    ($($method:ident: $path:literal, $request:ty => $response:ty;)*) => {
        impl Client {
            $(
                #[doc = concat!("`", $path, "`")]
                pub async fn $method(&self, request: $request) -> Result<$response, Status> {
                    self.unary($path, &request).await
                }
            )*
        }
    };
}

unary! {
    range: "/etcdserverpb.KV/Range", pb::RangeRequest => pb::RangeResponse;
    put: "/etcdserverpb.KV/Put", pb::PutRequest => pb::PutResponse;
    delete_range: "/etcdserverpb.KV/DeleteRange", pb::DeleteRangeRequest => pb::DeleteRangeResponse;
    txn: "/etcdserverpb.KV/Txn", pb::TxnRequest => pb::TxnResponse;
    compact: "/etcdserverpb.KV/Compact", pb::CompactionRequest => pb::CompactionResponse;
    lease_grant: "/etcdserverpb.Lease/LeaseGrant", pb::LeaseGrantRequest => pb::LeaseGrantResponse;
    lease_revoke: "/etcdserverpb.Lease/LeaseRevoke", pb::LeaseRevokeRequest => pb::LeaseRevokeResponse;
    lease_time_to_live: "/etcdserverpb.Lease/LeaseTimeToLive",
        pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse;
    lease_leases: "/etcdserverpb.Lease/LeaseLeases", pb::LeaseLeasesRequest => pb::LeaseLeasesResponse;
    member_add: "/etcdserverpb.Cluster/MemberAdd", pb::MemberAddRequest => pb::MemberAddResponse;
    member_remove: "/etcdserverpb.Cluster/MemberRemove", pb::MemberRemoveRequest => pb::MemberRemoveResponse;
    member_update: "/etcdserverpb.Cluster/MemberUpdate", pb::MemberUpdateRequest => pb::MemberUpdateResponse;
    member_list: "/etcdserverpb.Cluster/MemberList", pb::MemberListRequest => pb::MemberListResponse;
    member_promote: "/etcdserverpb.Cluster/MemberPromote", pb::MemberPromoteRequest => pb::MemberPromoteResponse;
    alarm: "/etcdserverpb.Maintenance/Alarm", pb::AlarmRequest => pb::AlarmResponse;
    status: "/etcdserverpb.Maintenance/Status", pb::StatusRequest => pb::StatusResponse;
    defragment: "/etcdserverpb.Maintenance/Defragment", pb::DefragmentRequest => pb::DefragmentResponse;
    hash: "/etcdserverpb.Maintenance/Hash", pb::HashRequest => pb::HashResponse;
    hash_kv: "/etcdserverpb.Maintenance/HashKV", pb::HashKvRequest => pb::HashKvResponse;
    move_leader: "/etcdserverpb.Maintenance/MoveLeader", pb::MoveLeaderRequest => pb::MoveLeaderResponse;
    downgrade: "/etcdserverpb.Maintenance/Downgrade", pb::DowngradeRequest => pb::DowngradeResponse;
    lock: "/v3lockpb.Lock/Lock", lock::LockRequest => lock::LockResponse;
    unlock: "/v3lockpb.Lock/Unlock", lock::UnlockRequest => lock::UnlockResponse;
    campaign: "/v3electionpb.Election/Campaign", election::CampaignRequest => election::CampaignResponse;
    proclaim: "/v3electionpb.Election/Proclaim", election::ProclaimRequest => election::ProclaimResponse;
    leader: "/v3electionpb.Election/Leader", election::LeaderRequest => election::LeaderResponse;
    resign: "/v3electionpb.Election/Resign", election::ResignRequest => election::ResignResponse;
    authenticate: "/etcdserverpb.Auth/Authenticate", pb::AuthenticateRequest => pb::AuthenticateResponse;
    health_check: "/grpc.health.v1.Health/Check", health::HealthCheckRequest => health::HealthCheckResponse;
    health_list: "/grpc.health.v1.Health/List", health::HealthListRequest => health::HealthListResponse;
}

impl Client {
    /// `/etcdserverpb.Watch/Watch`
    pub async fn watch(&self) -> Result<Stream<pb::WatchRequest, pb::WatchResponse>, Status> {
        self.stream("/etcdserverpb.Watch/Watch", &[]).await
    }

    /// [`Client::watch`] for those who want to know when the server has lost its leader: the call ends then.
    pub async fn watch_with_leader(&self) -> Result<Stream<pb::WatchRequest, pb::WatchResponse>, Status> {
        self.stream("/etcdserverpb.Watch/Watch", &[("hasleader", b"true")]).await
    }

    /// `/etcdserverpb.Lease/LeaseKeepAlive`
    pub async fn lease_keep_alive(
        &self,
    ) -> Result<Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>, Status> {
        self.stream("/etcdserverpb.Lease/LeaseKeepAlive", &[]).await
    }

    /// [`Client::lease_keep_alive`] for those who want to know when the server has lost its leader: the call ends then.
    pub async fn lease_keep_alive_with_leader(
        &self,
    ) -> Result<Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>, Status> {
        self.stream("/etcdserverpb.Lease/LeaseKeepAlive", &[("hasleader", b"true")]).await
    }

    /// `/etcdserverpb.KV/RangeStream`
    pub async fn range_stream(&self, request: pb::RangeRequest) -> Result<Incoming<pb::RangeStreamResponse>, Status> {
        self.server_stream("/etcdserverpb.KV/RangeStream", &request).await
    }

    /// `/etcdserverpb.Maintenance/Snapshot`
    pub async fn snapshot(&self, request: pb::SnapshotRequest) -> Result<Incoming<pb::SnapshotResponse>, Status> {
        self.server_stream("/etcdserverpb.Maintenance/Snapshot", &request).await
    }

    /// `/v3electionpb.Election/Observe`
    pub async fn observe(
        &self,
        request: election::LeaderRequest,
    ) -> Result<Incoming<election::LeaderResponse>, Status> {
        self.server_stream("/v3electionpb.Election/Observe", &request).await
    }

    /// `/grpc.health.v1.Health/Watch`
    pub async fn health_watch(
        &self,
        request: health::HealthCheckRequest,
    ) -> Result<Incoming<health::HealthCheckResponse>, Status> {
        self.server_stream("/grpc.health.v1.Health/Watch", &request).await
    }
}
