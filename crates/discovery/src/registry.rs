//! Members that find each other through an etcd cluster that is there already: the discovery service of version 3.
//!
//! ```text
//! /_etcd/registry/TOKEN/_config/size        how many members the new cluster has; written by the operator
//! /_etcd/registry/TOKEN/members/ID          NAME=URL,NAME=URL of a member, written by itself
//! ```
//!
//! The first so many that registered are the cluster, in the order in which they did. Each waits until all are there.
//!
//! Source: etcd-io/etcd 3.6 `server/etcdserver/api/v3discovery/discovery.go`.

use std::net::SocketAddr;
use std::time::Duration;

use api::etcdserverpb::{
    AuthenticateRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
    WatchResponse, watch_request,
};
use api::mvccpb::KeyValue;
use client::{Client, Code, ConnectOptions, Status, Stream};
use types::{InitialCluster, MemberId};

/// A discovery service, and what this member wants of it.
#[derive(Clone, Debug)]
pub struct Registry {
    /// `host:port`, one of which is asked at a time. Never empty.
    pub endpoints: Vec<String>,
    /// Names the new cluster.
    pub token: String,
    /// Name and password.
    pub user: Option<(String, String)>,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    /// While waiting for others, the service is asked this often whether it is still there,
    pub keepalive_time: Duration,
    /// and taken to be gone if it does not answer within this.
    pub keepalive_timeout: Duration,
}

/// Why there will be no cluster. Shown in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("failed to join discovery cluster (discovery: size key not found)")]
    SizeMissing,
    #[error("failed to join discovery cluster (discovery: size key is bad)")]
    SizeBad,
    #[error("failed to join discovery cluster (discovery: cluster is full)")]
    Full,
    #[error("failed to join discovery cluster (discovery: found duplicate name)")]
    DuplicateName,
    #[error("discovery cluster {0} has duplicate url")]
    DuplicateUrl(InitialCluster),
    #[error("failed to join discovery cluster (discovery: {member} is registered with {text:?}, which names no URLs)")]
    Unreadable { member: String, text: String },
    /// The service does not let this member in.
    #[error("failed to join discovery cluster ({0})")]
    Refused(String),
}

/// More than a thousand members' names and URLs.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(32);

impl Registry {
    /// Registers the member `id` as `own` and waits until the cluster is complete, however long that takes; a service that
    /// cannot be reached is asked again.
    ///
    /// # Errors
    /// What waiting does not mend.
    pub async fn join(&self, id: MemberId, own: &InitialCluster) -> Result<InitialCluster, RegistryError> {
        let mut endpoints = self.endpoints.iter().cycle();
        let mut pause = RETRY_INTERVAL_MIN;
        loop {
            let endpoint = endpoints.next().expect("there is an endpoint");
            match self.try_join(endpoint, id, own).await {
                Ok(registered) => return cluster_of(&self.token, &registered),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(status)) => {
                    let retry_in_seconds = pause.as_secs();
                    tracing::warn!(endpoint, %status, retry_in_seconds, "the discovery service does not answer");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_INTERVAL_MAX);
        }
    }

    async fn try_join(&self, endpoint: &str, id: MemberId, own: &InitialCluster) -> Result<Vec<Registered>, Trouble> {
        let mut service = Service::connect(self, endpoint).await?;
        service.look(id).await?;
        service.register(id, own).await?;
        // Others may have been faster.
        service.wait(id).await
    }

    fn prefix(&self) -> String {
        format!("/_etcd/registry/{}", self.token)
    }
}

/// Why an attempt failed.
enum Trouble {
    /// Another attempt may do.
    Passing(Status),
    Final(RegistryError),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Trouble {
        match status.code {
            Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
                Trouble::Final(RegistryError::Refused(status.message))
            }
            // Also a token that has lapsed meanwhile: the next attempt gets another.
            _ => Trouble::Passing(status),
        }
    }
}

impl From<RegistryError> for Trouble {
    fn from(error: RegistryError) -> Trouble {
        Trouble::Final(error)
    }
}

/// One member of a cluster to come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    /// As it stands in the key.
    member: String,
    /// The revision that it came with.
    created: i64,
    /// `NAME=URL,NAME=URL`
    text: String,
}

/// A connection to the service.
struct Service<'a> {
    registry: &'a Registry,
    client: Client,
    /// Sent with every request, if the service asks who does.
    token: Option<String>,
}

impl<'a> Service<'a> {
    async fn connect(registry: &'a Registry, endpoint: &str) -> Result<Service<'a>, Trouble> {
        let options = ConnectOptions { message_bytes_max: ANSWER_BYTES_MAX, ..ConnectOptions::default() };
        let client = within(registry.dial_timeout, async {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(endpoint).await.map_err(unavailable)?.collect();
            let mut last = unavailable("no address");
            for address in addresses {
                match Client::connect_with(address, options).await {
                    Ok(client) => return Ok(client),
                    Err(status) => last = status,
                }
            }
            Err(last)
        })
        .await?;
        let mut service = Service { registry, client, token: None };
        if let Some((name, password)) = registry.user.clone() {
            let request = AuthenticateRequest { name, password };
            let answer = within(registry.request_timeout, service.client.authenticate(request)).await?;
            service.token = Some(answer.token);
        }
        Ok(service)
    }

    /// How many the cluster is to have, and who they are so far; and the revision at which that was so.
    async fn look(&self, id: MemberId) -> Result<(usize, Vec<Registered>, i64), Trouble> {
        let key = format!("{}/_config/size", self.registry.prefix());
        let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
        let (kvs, _) = self.range(request).await?;
        let size = size_of(&kvs)?;
        let prefix = self.members_prefix();
        let request = RangeRequest { range_end: after(&prefix), key: prefix.into(), ..RangeRequest::default() };
        let (kvs, revision) = self.range(request).await?;
        let registered = self.registered(&kvs);
        require_place(&registered, size, id)?;
        Ok((size, registered, revision))
    }

    async fn register(&self, id: MemberId, own: &InitialCluster) -> Result<(), Trouble> {
        let key = format!("{}{id}", self.members_prefix());
        let request = PutRequest { key: key.into(), value: own.to_string().into(), ..PutRequest::default() };
        let metadata = self.metadata();
        let call = self.client.unary_with::<PutResponse>("/etcdserverpb.KV/Put", &metadata, &request);
        within(self.registry.request_timeout, call).await?;
        tracing::info!(member = %id, "registered at the discovery service");
        Ok(())
    }

    /// Waits until all are there.
    async fn wait(&mut self, id: MemberId) -> Result<Vec<Registered>, Trouble> {
        let (mut size, mut registered, revision) = self.look(id).await?;
        let (mut watch, mut told) = (None, None);
        loop {
            if registered.len() >= size {
                registered.truncate(size);
                return Ok(registered);
            }
            let (found, needed) = (registered.len(), size - registered.len());
            if told.replace((found, needed)) != Some((found, needed)) {
                tracing::info!(found, needed, "waiting for other members to register at the discovery service");
            }
            if watch.is_none() {
                watch = Some(self.watch(revision + 1).await?);
            }
            let events: &mut Stream<_, WatchResponse> = watch.as_mut().expect("it was just opened");
            // Whatever was told, and if nothing was for a while: only a look says how things are.
            match tokio::time::timeout(self.registry.keepalive_time, events.next()).await {
                Ok(Ok(Some(answer))) if answer.canceled => watch = None,
                Ok(Ok(Some(_))) | Err(_) => {}
                Ok(Ok(None)) => watch = None,
                Ok(Err(status)) => return Err(status.into()),
            }
            let looked = within_trouble(self.registry.keepalive_timeout, self.look(id)).await?;
            (size, registered) = (looked.0, looked.1);
        }
    }

    async fn watch(&self, from: i64) -> Result<Stream<WatchRequest, WatchResponse>, Trouble> {
        let prefix = self.members_prefix();
        let create = WatchCreateRequest {
            range_end: after(&prefix),
            key: prefix.into(),
            start_revision: from,
            ..WatchCreateRequest::default()
        };
        let mut stream = self.client.stream("/etcdserverpb.Watch/Watch", &self.metadata()).await?;
        stream.send(&WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) })?;
        Ok(stream)
    }

    async fn range(&self, request: RangeRequest) -> Result<(Vec<KeyValue>, i64), Trouble> {
        let metadata = self.metadata();
        let call = self.client.unary_with::<RangeResponse>("/etcdserverpb.KV/Range", &metadata, &request);
        let answer = within(self.registry.request_timeout, call).await?;
        Ok((answer.kvs, answer.header.map_or(0, |header| header.revision)))
    }

    fn members_prefix(&self) -> String {
        format!("{}/members/", self.registry.prefix())
    }

    fn registered(&self, kvs: &[KeyValue]) -> Vec<Registered> {
        let prefix_len = self.members_prefix().len();
        in_order(kvs.iter().map(|kv| Registered {
            member: String::from_utf8_lossy(&kv.key[prefix_len..]).into_owned(),
            created: kv.create_revision,
            text: String::from_utf8_lossy(&kv.value).into_owned(),
        }))
    }

    fn metadata(&self) -> Vec<(&'static str, &[u8])> {
        self.token.iter().map(|token| ("token", token.as_bytes())).collect()
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Trouble::Passing(Status::new(Code::DeadlineExceeded, "context deadline exceeded"))),
    }
}

async fn within_trouble<T>(limit: Duration, call: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let late = || Trouble::Passing(Status::new(Code::DeadlineExceeded, "context deadline exceeded"));
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}

fn unavailable(cause: impl std::fmt::Display) -> Status {
    Status::new(Code::Unavailable, cause.to_string())
}

/// The end of the range of all keys that begin with `prefix`, whose last byte is below 255.
fn after(prefix: &str) -> bytes::Bytes {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix has a last byte") += 1;
    end.into()
}

fn size_of(kvs: &[KeyValue]) -> Result<usize, RegistryError> {
    let size = &kvs.first().ok_or(RegistryError::SizeMissing)?.value;
    let size = std::str::from_utf8(size).ok().and_then(|text| text.parse().ok());
    size.filter(|size| *size > 0).ok_or(RegistryError::SizeBad)
}

/// Whoever came first is first.
fn in_order(registered: impl Iterator<Item = Registered>) -> Vec<Registered> {
    let mut registered: Vec<Registered> = registered.collect();
    registered.sort_by_key(|member| member.created);
    registered
}

/// Whether there is a place for this member among the first `size`, or it has one.
fn require_place(registered: &[Registered], size: usize, id: MemberId) -> Result<(), RegistryError> {
    let id = id.to_string();
    let is_among = registered.iter().take(size).any(|member| member.member == id);
    if is_among || registered.len() < size { Ok(()) } else { Err(RegistryError::Full) }
}

fn cluster_of(token: &str, registered: &[Registered]) -> Result<InitialCluster, RegistryError> {
    let mut pairs = Vec::new();
    for Registered { member, text, .. } in registered {
        let unreadable = || RegistryError::Unreadable { member: member.clone(), text: text.clone() };
        let before = pairs.len();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').filter(|(_, url)| !url.is_empty()).ok_or_else(unreadable)?;
            pairs.push((name.to_owned(), url.to_owned()));
        }
        if pairs.len() == before {
            return Err(unreadable());
        }
    }
    let cluster = InitialCluster::new(token, pairs);
    if cluster.members().len() == registered.len() { Ok(cluster) } else { Err(RegistryError::DuplicateName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, created: i64, text: &str) -> Registered {
        Registered { member: MemberId(id).to_string(), created, text: text.to_owned() }
    }

    fn size(values: &[&str]) -> Result<usize, RegistryError> {
        let kv = |value: &&str| KeyValue { value: (*value).to_owned().into(), ..KeyValue::default() };
        size_of(&values.iter().map(kv).collect::<Vec<_>>())
    }

    #[test]
    fn the_size_must_be_there_and_be_one() {
        assert_eq!(size(&["3"]), Ok(3));
        assert_eq!(size(&[]), Err(RegistryError::SizeMissing));
        for bad in ["", "0", "-1", "three", "3 "] {
            assert_eq!(size(&[bad]), Err(RegistryError::SizeBad), "{bad:?}");
        }
        assert_eq!(
            RegistryError::SizeMissing.to_string(),
            "failed to join discovery cluster (discovery: size key not found)"
        );
    }

    #[test]
    fn places_go_to_those_who_came_first() {
        let all = in_order([member(1, 9, ""), member(2, 4, ""), member(3, 6, "")].into_iter());
        let order: Vec<i64> = all.iter().map(|member| member.created).collect();
        assert_eq!(order, [4, 6, 9]);
        let has_place = |id, size| require_place(&all, size, MemberId(id));
        assert_eq!((has_place(2, 2), has_place(3, 2)), (Ok(()), Ok(())));
        assert_eq!(has_place(1, 2), Err(RegistryError::Full));
        assert_eq!(has_place(7, 3), Err(RegistryError::Full));
        assert_eq!((has_place(7, 4), has_place(1, 3)), (Ok(()), Ok(())));
    }

    #[test]
    fn what_was_registered_is_a_cluster() {
        let two = [member(1, 1, "b=http://b:1,b=http://b:2"), member(2, 2, "a=http://a:1")];
        let cluster = cluster_of("tok", &two).unwrap();
        assert_eq!(cluster.to_string(), "a=http://a:1,b=http://b:1,b=http://b:2");
        assert_eq!(cluster.token, "tok");
        let same_name = [member(1, 1, "a=http://b:1"), member(2, 2, "a=http://a:1")];
        assert_eq!(cluster_of("tok", &same_name), Err(RegistryError::DuplicateName));
        for text in ["", "a", "a="] {
            let error = cluster_of("tok", &[member(1, 1, text)]).unwrap_err();
            assert!(matches!(error, RegistryError::Unreadable { .. }), "{text:?}");
        }
    }

    #[test]
    fn what_another_attempt_may_mend_is_told_from_what_it_will_not() {
        let is_final =
            |code| matches!(Trouble::from(Status::new(code, "why")), Trouble::Final(RegistryError::Refused(_)));
        assert!(is_final(Code::PermissionDenied) && is_final(Code::InvalidArgument));
        assert!(!is_final(Code::Unavailable) && !is_final(Code::Unauthenticated));
    }

    #[test]
    fn a_prefix_ends_before_what_does_not_begin_with_it() {
        assert_eq!(&*after("/members/"), b"/members0");
    }
}
