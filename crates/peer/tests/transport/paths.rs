//! What members ask one another: in etcd's forms, by its paths, and with our own calls.

use std::time::Duration;

use bytes::Bytes;
use peer::client::{self, ClientError, KeptConnections};
use peer::{HashKv, LeaseTimes, PeerError, PeerRequest, PeerResponse, Versions};
use types::LeaseId;

use crate::ground::{CLUSTER, Member, PATIENCE, ask, request, run, url};

const MEMBERS: &str = r#"[{"id":17231013289306881450,"peerURLs":["http://127.0.0.1:4180"],"name":"m1"}]"#;

fn answer(request: &PeerRequest) -> Result<PeerResponse, PeerError> {
    match request {
        PeerRequest::Members => Ok(PeerResponse::Members(Bytes::from_static(MEMBERS.as_bytes()))),
        PeerRequest::Promote { id: 7, authorization } if authorization.as_deref() == Some("token") => {
            Ok(PeerResponse::Members(Bytes::from_static(MEMBERS.as_bytes())))
        }
        PeerRequest::Promote { id: 8, .. } => Err(PeerError::LearnerNotReady),
        PeerRequest::Promote { id: 9, .. } => Err(PeerError::Other("no quorum".to_owned())),
        PeerRequest::Promote { .. } => Err(PeerError::MemberNotFound),
        PeerRequest::HashKv { revision: 0 } => {
            Ok(PeerResponse::HashKv(HashKv { revision: 1, hash: 1_084_519_789, compact_revision: -1 }))
        }
        PeerRequest::HashKv { revision: 1 } => Err(PeerError::Compacted),
        PeerRequest::HashKv { .. } => Err(PeerError::FutureRevision),
        PeerRequest::KeepAlive { lease: LeaseId(-5) } => Ok(PeerResponse::KeptAlive { lease: LeaseId(-5), ttl: 500 }),
        PeerRequest::KeepAlive { lease: LeaseId(6) } => Err(PeerError::NotCaughtUp),
        PeerRequest::KeepAlive { lease: LeaseId(7) } => Err(PeerError::NotPrimary),
        PeerRequest::TimeToLive { lease: LeaseId(-5), keys } => Ok(PeerResponse::TimeToLive(LeaseTimes {
            id: LeaseId(-5),
            ttl: 499,
            granted_ttl: 500,
            keys: if *keys { vec![Bytes::from_static(b"foo")] } else { vec![] },
        })),
        PeerRequest::KeepAlive { .. } | PeerRequest::TimeToLive { .. } => Err(PeerError::LeaseNotFound),
        PeerRequest::DowngradeEnabled => Ok(PeerResponse::DowngradeEnabled(false)),
        PeerRequest::Version => {
            Ok(PeerResponse::Version(Versions { server: "3.5.30".to_owned(), cluster: "3.5.0".to_owned() }))
        }
    }
}

fn answering() -> Member {
    let member = Member::start(1);
    *member.record.answerer.borrow_mut() = Some(Box::new(answer));
    member
}

/// Method, path, body; status, body, content type, and whether the cluster is named.
type Case<'a> = (&'a str, &'a str, &'a [u8], u16, &'a str, &'a str, bool);

/// As a running etcd 3.5.30 gave them.
#[test]
fn answers_are_etcds() {
    const TEXT: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    run(async {
        let a = answering();
        let members = format!("{MEMBERS}\n");
        let cases: Vec<Case<'_>> = vec![
            ("GET", "/members", b"", 200, &members, JSON, true),
            ("POST", "/members", b"", 405, "Method Not Allowed\n", TEXT, false),
            ("GET", "/version", b"", 200, r#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#, JSON, false),
            ("POST", "/version", b"", 405, "Method Not Allowed\n", TEXT, false),
            ("GET", "/nothing", b"", 404, "404 page not found\n", TEXT, false),
            ("GET", "/", b"", 404, "404 page not found\n", TEXT, false),
            ("GET", "/raft/", b"", 404, "404 page not found\n", TEXT, false),
            ("GET", "/members/", b"", 404, "404 page not found\n", TEXT, false),
            ("GET", "/members/x", b"", 404, "404 page not found\n", TEXT, false),
            ("GET", "/leases", b"", 405, "Method Not Allowed\n", TEXT, false),
            ("POST", "/leases", b"", 404, "lease not found\n", TEXT, false),
            ("POST", "/leases", b"\x0a\xff", 400, "error unmarshalling request\n", TEXT, false),
            ("POST", "/leases", b"\x08\x07", 400, "not a primary lessor\n", TEXT, false),
            ("POST", "/leases/internal", b"\x0a\x02\x08\x05", 404, "lease not found\n", TEXT, false),
            ("POST", "/leases/internal", b"\x0a\xff", 400, "error unmarshalling request\n", TEXT, false),
            ("GET", "/downgrade/enabled", b"", 200, "false", "text/plain", true),
            ("POST", "/downgrade/enabled", b"", 405, "Method Not Allowed\n", TEXT, false),
            ("POST", "/members/promote/5", b"", 404, "membership: ID not found\n", TEXT, true),
            ("POST", "/members/promote/zz", b"", 404, "member zz not found in cluster\n", TEXT, true),
            (
                "POST",
                "/members/promote/8",
                b"",
                412,
                "etcdserver: can only promote a learner member which is in sync with leader\n",
                TEXT,
                true,
            ),
            ("POST", "/members/promote/9", b"", 500, r#"{"message":"no quorum"}"#, JSON, true),
            ("GET", "/members/promote/5", b"", 405, "Method Not Allowed\n", TEXT, false),
            ("GET", "/members/hashkv", b"", 400, "error unmarshalling request\n", TEXT, false),
            (
                "GET",
                "/members/hashkv",
                br#"{"revision":0}"#,
                200,
                r#"{"header":{"revision":1},"hash":1084519789,"compact_revision":-1}"#,
                JSON,
                true,
            ),
            (
                "GET",
                "/members/hashkv",
                br#"{"revision":100}"#,
                400,
                "mvcc: required revision is a future revision\n",
                TEXT,
                false,
            ),
            (
                "GET",
                "/members/hashkv",
                br#"{"revision":1}"#,
                400,
                "mvcc: required revision has been compacted\n",
                TEXT,
                false,
            ),
            ("POST", "/members/hashkv", b"{}", 405, "Method Not Allowed\n", TEXT, false),
        ];
        for (method, path, body, status, text, content_type, is_named) in cases {
            let answer = ask(a.address, &request(method, path, "", body)).await;
            assert_eq!(answer.short(), (status, text), "{method} {path}");
            assert_eq!(answer.header("Content-Type"), Some(content_type), "{method} {path}");
            assert_eq!(answer.header("X-Etcd-Cluster-Id"), is_named.then_some("c1"), "{method} {path}");
            let is_refusal = status >= 400 && content_type == TEXT;
            assert_eq!(answer.header("X-Content-Type-Options"), is_refusal.then_some("nosniff"), "{method} {path}");
        }
        let stranger = ask(a.address, &request("GET", "/members/hashkv", "X-Etcd-Cluster-ID: 1\r\n", b"{}")).await;
        assert_eq!(stranger.short(), (412, "cluster ID mismatch\n"));
        let probe = ask(a.address, &request("GET", "/raft/probing", "", b"")).await;
        assert!(probe.body.starts_with(r#"{"OK":true,"Now":"20"#) && probe.body.ends_with("Z\"}\n"), "{probe:?}");
        let allowed = ask(a.address, &request("GET", "/raft", "", b"")).await;
        assert_eq!(allowed.header("Allow"), Some("POST"));
    });
}

#[test]
fn bodies_are_bounded() {
    run(async {
        let a = answering();
        for path in ["/leases", "/leases/internal"] {
            let answer = ask(a.address, &request("POST", path, "", &vec![0x0a; 70_000])).await;
            assert_eq!(answer.status, 413, "{path}");
        }
    });
}

#[test]
fn our_calls_understand_the_answers() {
    run(async {
        let a = answering();
        let url = url(a.address);
        let (cluster, members) = client::get_members::<serde_json::Value>(&url, PATIENCE).await.unwrap();
        assert_eq!((cluster, members[0]["id"].as_u64()), (CLUSTER, Some(17_231_013_289_306_881_450)));
        let versions = client::get_version(&url, PATIENCE).await.unwrap();
        assert_eq!((&*versions.server, &*versions.cluster), ("3.5.30", "3.5.0"));
        assert!(!client::downgrade_enabled(&url, PATIENCE).await.unwrap());

        let kept = KeptConnections::default();
        assert_eq!(kept.keep_alive(&url, LeaseId(-5), PATIENCE).await.unwrap(), 500);
        let refused = |error| match error {
            ClientError::Refused(error) => error,
            other => panic!("{other}"),
        };
        for (lease, expected) in
            [(5, PeerError::LeaseNotFound), (6, PeerError::NotCaughtUp), (7, PeerError::NotPrimary)]
        {
            let error = kept.keep_alive(&url, LeaseId(lease), PATIENCE).await.unwrap_err();
            assert_eq!(refused(error), expected);
        }
        let times = kept.time_to_live(&url, LeaseId(-5), true, PATIENCE).await.unwrap();
        assert_eq!((times.ttl, times.granted_ttl, &times.keys[..]), (499, 500, &[Bytes::from_static(b"foo")][..]));

        let promoted: Vec<serde_json::Value> = client::promote(&url, 7, Some("token"), PATIENCE).await.unwrap();
        assert_eq!(promoted.len(), 1);
        for (id, expected) in [
            (7, PeerError::MemberNotFound),
            (8, PeerError::LearnerNotReady),
            (9, PeerError::Other(r#"{"message":"no quorum"}"#.to_owned())),
        ] {
            let error = client::promote::<serde_json::Value>(&url, id, None, PATIENCE).await.unwrap_err();
            assert_eq!(refused(error), expected);
        }

        let hash = client::hash_kv(&url, CLUSTER, 0, PATIENCE).await.unwrap();
        assert_eq!(hash, HashKv { revision: 1, hash: 1_084_519_789, compact_revision: -1 });
        let error = client::hash_kv(&url, CLUSTER, 1, PATIENCE).await.unwrap_err();
        assert_eq!(refused(error), PeerError::Compacted);
        let error = client::hash_kv(&url, types::ClusterId(1), 0, PATIENCE).await.unwrap_err();
        assert_eq!(refused(error), PeerError::WrongCluster);
    });
}

#[test]
fn calls_that_get_no_answer_say_why() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = url(listener.local_addr().unwrap());
        let short = Duration::from_millis(50);
        assert!(matches!(client::get_version(&silent, short).await, Err(ClientError::TimedOut)));
        drop(listener);
        assert!(matches!(client::get_version(&silent, PATIENCE).await, Err(ClientError::Unreachable { .. })));
        assert!(matches!(client::get_version("https://a:1", short).await, Err(ClientError::Address { .. })));
    });
}
