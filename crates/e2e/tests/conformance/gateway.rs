//! The JSON gateway: every method, what requests may look like, and how failures are answered.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::StatusRequest;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::{Difference, Member, Target, http, request, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

async fn post(member: &Member, path: &str, body: &str) -> Result<http::Response> {
    http::post(member.address(), path, &[], body.as_bytes()).await
}

/// The answer to a call that succeeds, without its header, of which the revision is checked to be a string.
#[track_caller]
fn answered(response: &http::Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("grpc-metadata-content-type"), Some("application/grpc"));
    let mut body: Value = serde_json::from_str(&response.body).unwrap();
    if let Some(header) = body.as_object_mut().unwrap().remove("header") {
        for name in ["cluster_id", "member_id", "raft_term"] {
            assert!(header[name].as_str().is_some_and(|number| number.parse::<u64>().is_ok()), "{header}");
        }
    }
    body
}

async fn call(member: &Member, path: &str, body: Value) -> Result<Value> {
    let response = post(member, path, &body.to_string()).await?;
    Ok(answered(&response))
}

/// HTTP status, code and text of a call that fails.
#[track_caller]
fn refused(member: &Member, response: &http::Response) -> (u16, i64, String) {
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("grpc-metadata-content-type"), None);
    let body: Value = serde_json::from_str(&response.body).unwrap();
    let expected_error = match Difference::ErrorsSuitBothGateways.shows(member.target()) {
        true => body["message"].clone(),
        false => Value::Null,
    };
    assert_eq!(body["error"], expected_error, "{body}");
    (response.status, body["code"].as_i64().unwrap(), body["message"].as_str().unwrap().to_owned())
}

#[track_caller]
fn assert_refused(member: &Member, response: &http::Response, status: u16, code: i64, text: &str) {
    assert_eq!(refused(member, response), (status, code, text.to_owned()));
}

async fn keys_are_put_read_and_deleted(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let (key, value) = (base64("foo"), base64("bar"));
    assert_eq!(call(&member, "/v3/kv/put", json!({"key": key, "value": value})).await?, json!({}));
    let read = call(&member, "/v3/kv/range", json!({"key": key})).await?;
    let kv = json!({"key": key, "create_revision": "2", "mod_revision": "2", "version": "1", "value": value});
    assert_eq!(read, json!({"kvs": [kv], "count": "1"}));
    let again = call(&member, "/v3/kv/put", json!({"key": key, "prev_kv": true})).await?;
    assert_eq!(again, json!({"prev_kv": kv}));
    let listed =
        call(&member, "/v3/kv/range", json!({"key": "AA==", "range_end": "AA==", "limit": 1, "keys_only": true}))
            .await?;
    assert_eq!(listed["kvs"][0], json!({"key": key, "create_revision": "2", "mod_revision": "3", "version": "2"}));
    call(&member, "/v3/kv/put", json!({"key": base64("g"), "lease": 0})).await?;
    let limited = call(&member, "/v3/kv/range", json!({"key": key, "range_end": "AA==", "limit": "1"})).await?;
    assert_eq!((&limited["more"], &limited["count"]), (&json!(true), &json!("2")));
    assert_eq!(call(&member, "/v3/kv/range", json!({"key": key, "count_only": true})).await?, json!({"count": "1"}));
    assert_eq!(
        call(&member, "/v3/kv/deleterange", json!({"key": key, "range_end": "AA=="})).await?,
        json!({"deleted": "2"})
    );
    assert_eq!(call(&member, "/v3/kv/deleterange", json!({"key": key})).await?, json!({}));
    assert_eq!(call(&member, "/v3/kv/compaction", json!({"revision": "4", "physical": true})).await?, json!({}));
    let compacted = post(&member, "/v3/kv/range", &json!({"key": key, "revision": 2}).to_string()).await?;
    assert_refused(&member, &compacted, 400, 11, "etcdserver: mvcc: required revision has been compacted");
    Ok(())
}

async fn a_transaction_is_made(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let key = base64("k");
    let txn = json!({
        "compare": [{"key": key, "target": "VERSION", "result": "EQUAL", "version": "0"}],
        "success": [
            {"request_put": {"key": key, "value": base64("v")}},
            {"request_range": {"key": key}},
            {"request_delete_range": {"key": base64("none")}},
            {"request_txn": {"success": [{"requestRange": {"key": key, "countOnly": true}}]}},
        ],
        "failure": [{"request_range": {"key": key}}],
    });
    let made = call(&member, "/v3/kv/txn", txn.clone()).await?;
    let kv = json!({"key": key, "create_revision": "2", "mod_revision": "2", "version": "1", "value": base64("v")});
    let expected = json!([
        {"response_put": {"header": {"revision": "2"}}},
        {"response_range": {"header": {"revision": "2"}, "kvs": [kv], "count": "1"}},
        {"response_delete_range": {"header": {"revision": "2"}}},
        {"response_txn": {"header": {}, "succeeded": true, "responses": [
            {"response_range": {"header": {"revision": "2"}, "count": "1"}},
        ]}},
    ]);
    assert_eq!(made, json!({"succeeded": true, "responses": expected}));
    let failed = call(&member, "/v3/kv/txn", txn).await?;
    assert_eq!(failed["succeeded"], Value::Null);
    assert_eq!(failed["responses"][0]["response_range"]["count"], "1");
    Ok(())
}

async fn leases_are_granted_and_revoked(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    assert_eq!(
        call(&member, "/v3/lease/grant", json!({"TTL": 600, "ID": "77"})).await?,
        json!({"ID": "77", "TTL": "600"})
    );
    call(&member, "/v3/kv/put", json!({"key": base64("k"), "lease": 77})).await?;
    for path in ["/v3/lease/timetolive", "/v3/kv/lease/timetolive", "/v3beta/kv/lease/timetolive"] {
        let mut left = call(&member, path, json!({"ID": 77, "keys": true})).await?;
        let ttl = left.as_object_mut().unwrap().remove("TTL").context("it has a TTL")?;
        assert!((1..=600).contains(&ttl.as_str().unwrap().parse::<i64>()?), "{ttl}");
        assert_eq!(left, json!({"ID": "77", "grantedTTL": "600", "keys": [base64("k")]}));
    }
    for path in ["/v3/lease/leases", "/v3/kv/lease/leases"] {
        assert_eq!(call(&member, path, json!({})).await?, json!({"leases": [{"ID": "77"}]}));
    }
    assert_eq!(call(&member, "/v3/lease/revoke", json!({"ID": 77})).await?, json!({}));
    let gone = post(&member, "/v3/kv/lease/revoke", r#"{"ID":77}"#).await?;
    assert_refused(&member, &gone, 404, 5, "etcdserver: requested lease not found");
    let exists = json!({"TTL": 600, "ID": 5}).to_string();
    post(&member, "/v3/lease/grant", &exists).await?;
    let twice = post(&member, "/v3/lease/grant", &exists).await?;
    assert_refused(&member, &twice, 400, 9, "etcdserver: lease already exists");
    Ok(())
}

async fn the_cluster_is_shown_and_changed(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let list = call(&member, "/v3/cluster/member/list", json!({})).await?;
    let own = &list["members"][0];
    assert_eq!((&own["name"], own["isLearner"].is_null()), (&json!("m1"), true));
    assert_eq!(own["clientURLs"], json!([format!("http://{}", member.address())]));
    let added =
        call(&member, "/v3/cluster/member/add", json!({"peerURLs": ["http://127.0.0.1:1"], "isLearner": true})).await?;
    assert_eq!(
        (&added["member"]["isLearner"], &added["member"]["peerURLs"]),
        (&json!(true), &json!(["http://127.0.0.1:1"]))
    );
    let id = added["member"]["ID"].as_str().context("an ID is a string")?;
    let update = json!({"ID": id, "peerURLs": ["http://127.0.0.1:2"]});
    let updated = call(&member, "/v3/cluster/member/update", update).await?;
    assert_eq!(updated["members"].as_array().unwrap().len(), 2);
    let promoted = post(&member, "/v3/cluster/member/promote", &json!({"ID": id}).to_string()).await?;
    let not_ready = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_refused(&member, &promoted, 400, 9, not_ready);
    let removed = call(&member, "/v3/cluster/member/remove", json!({"ID": id})).await?;
    assert_eq!(removed["members"].as_array().unwrap().len(), 1);
    Ok(())
}

async fn maintenance_is_done(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let status = call(&member, "/v3/maintenance/status", json!({})).await?;
    let same = member.status(StatusRequest {}).await?;
    assert_eq!((&status["version"], &status["leader"]), (&json!(same.version), &json!(same.leader.to_string())));
    assert!(status["dbSize"].is_string() && status["raftIndex"].is_string(), "{status}");
    let alarm = json!({"action": "ACTIVATE", "memberID": "7", "alarm": "NOSPACE"});
    let raised = json!({"alarms": [{"memberID": "7", "alarm": "NOSPACE"}]});
    assert_eq!(call(&member, "/v3/maintenance/alarm", alarm).await?, raised);
    assert_eq!(call(&member, "/v3/maintenance/alarm", json!({"action": 0})).await?, raised);
    let full = post(&member, "/v3/kv/put", r#"{"key":"Zg=="}"#).await?;
    assert_refused(&member, &full, 429, 8, "etcdserver: mvcc: database space exceeded");
    call(&member, "/v3/maintenance/alarm", json!({"action": 2, "memberID": 7, "alarm": 1})).await?;
    for path in ["/v3/maintenance/hash", "/v3/maintenance/hashkv"] {
        let hash = call(&member, path, json!({})).await?;
        assert!(hash["hash"].is_u64(), "{hash}");
    }
    assert_eq!(call(&member, "/v3/maintenance/defragment", json!({})).await?, json!({}));
    let nobody = post(&member, "/v3/maintenance/transfer-leadership", r#"{"targetID":"5"}"#).await?;
    assert_refused(&member, &nobody, 400, 9, "etcdserver: bad leader transferee");
    Ok(())
}

async fn locks_and_elections_are_held(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    call(&member, "/v3/lease/grant", json!({"TTL": 600, "ID": "31"})).await?;
    let locked = call(&member, "/v3/lock/lock", json!({"name": base64("l"), "lease": "31"})).await?;
    assert_eq!(locked, json!({"key": base64("l/1f")}));
    assert_eq!(call(&member, "/v3/lock/unlock", locked).await?, json!({}));
    let campaign = json!({"name": base64("e"), "lease": 31, "value": base64("me")});
    let won = call(&member, "/v3/election/campaign", campaign).await?;
    let leader = won["leader"].clone();
    assert_eq!((&leader["key"], &leader["lease"]), (&json!(base64("e/1f")), &json!("31")));
    call(&member, "/v3/election/proclaim", json!({"leader": leader, "value": base64("still me")})).await?;
    let held = call(&member, "/v3/election/leader", json!({"name": base64("e")})).await?;
    assert_eq!(held["kv"]["value"], json!(base64("still me")));
    assert_eq!(call(&member, "/v3/election/resign", json!({"leader": leader})).await?, json!({}));
    let none = post(&member, "/v3/election/leader", &json!({"name": base64("e")}).to_string()).await?;
    assert_refused(&member, &none, 500, 2, "election: no leader");
    let nobody = post(&member, "/v3/election/resign", "{}").await?;
    assert_refused(&member, &nobody, 500, 2, "\"leader\" field must be provided");
    Ok(())
}

async fn what_is_not_there_is_said_to_be_missing(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for path in ["/v3/nope", "/v3/", "/v3/kv/range/", "/v3/kv/range:x", "/v3beta/kv"] {
        assert_refused(&member, &post(&member, path, "{}").await?, 404, 5, "Not Found");
        assert_refused(&member, &http::get(member.address(), path).await?, 404, 5, "Not Found");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        for path in ["/v3/kv/range", "/v3/watch", "/v3beta/lease/keepalive"] {
            let response = http::send(member.address(), method, path).await?;
            assert_refused(&member, &response, 501, 12, "Method Not Allowed");
        }
    }
    let head = http::send(member.address(), "HEAD", "/v3/kv/range").await?;
    assert_eq!((head.status, head.body.as_str()), (501, ""));
    let options = http::send(member.address(), "OPTIONS", "/v3/kv/range").await?;
    assert_eq!((options.status, options.body.as_str()), (200, ""));
    assert_eq!(options.header("access-control-allow-origin"), Some("*"));
    for path in ["/v3", "/v3//kv/range", "/v3/./kv/range"] {
        let moved = post(&member, path, "{}").await?;
        let location = if path == "/v3" { "/v3/" } else { "/v3/kv/range" };
        assert_eq!((moved.status, moved.header("location")), (301, Some(location)), "{path}");
    }
    for path in ["/v3alpha/kv/range", "/v3beta", "/etcdserverpb.KV/Range"] {
        let headers = ["Content-Type: application/grpc", "TE: trailers"];
        let response = http::post(member.address(), path, &headers, b"\0\0\0\0\0").await?;
        assert_eq!((response.status, response.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
    let escaped = post(&member, "/v3/kv%2frange?key=eA==", r#"{"key":"eA=="}"#).await?;
    assert_eq!(answered(&escaped), json!({}));
    Ok(())
}

/// Methods that Quorate does not serve yet say so in the gateway's way.
async fn methods_that_come_later_are_named(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for (path, body, name) in [
        ("auth/enable", "{}", "AuthEnable"),
        ("auth/disable", "{}", "AuthDisable"),
        ("auth/status", "", "AuthStatus"),
        ("auth/authenticate", r#"{"name":"u","password":"p"}"#, "Authenticate"),
        ("auth/user/add", r#"{"name":"u","password":"p"}"#, "UserAdd"),
        ("auth/user/get", r#"{"name":"u"}"#, "UserGet"),
        ("auth/user/list", "{}", "UserList"),
        ("auth/user/changepw", r#"{"name":"u","password":"p"}"#, "UserChangePassword"),
        ("auth/user/grant", r#"{"user":"u","role":"r"}"#, "UserGrantRole"),
        ("auth/user/revoke", r#"{"name":"u","role":"r"}"#, "UserRevokeRole"),
        ("auth/user/delete", r#"{"name":"u"}"#, "UserDelete"),
        ("auth/role/add", r#"{"name":"r"}"#, "RoleAdd"),
        ("auth/role/get", r#"{"role":"r"}"#, "RoleGet"),
        ("auth/role/list", "{}", "RoleList"),
        ("auth/role/grant", r#"{"name":"r","perm":{"permType":"READWRITE","key":"Zg=="}}"#, "RoleGrantPermission"),
        ("auth/role/revoke", r#"{"role":"r","key":"Zg=="}"#, "RoleRevokePermission"),
        ("auth/role/delete", r#"{"role":"r"}"#, "RoleDelete"),
        ("maintenance/downgrade", r#"{"action":"VALIDATE","version":"3.4.0"}"#, "Downgrade"),
    ] {
        let response = post(&member, &format!("/v3/{path}"), body).await?;
        match target {
            // What etcd has to say about them is not the point here, only that it knows them.
            Target::Etcd => assert!(![404, 501].contains(&response.status), "{path}: {}", response.body),
            Target::Quorate => {
                assert_refused(&member, &response, 501, 12, &format!("quorate: {name} is not implemented yet"));
            }
        }
    }
    Ok(())
}

async fn requests_may_be_written_in_many_ways(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(request::put("foo", "bar")).await?;
    member.put(request::put("fop", "bar")).await?;
    for body in [
        r#"{"key":"Zm9v","limit":null,"sort_order":null,"serializable":null}"#,
        r#"{"key":"Zm9v"} and what follows"#,
        r#"{"key":"Zm9v","limit":5.0,"revision":"0"}"#,
        r#"{"key":"Zm9v","limit":"1e0"}"#,
        r#"{"key":"Zm9v","limit":9223372036854775807.0}"#,
        r#"{"key":"Zm9v","limit":-9223372036854775808}"#,
        r#"{"key":"Zm9v","nope":{"a":[1,2,{"b":null}]},"Key":1}"#,
        r#"{"key":"Zm9v","sort_order":"DESCEND","sortTarget":"KEY"}"#,
        r#"{"key":"Zm9v","sort_order":1.0}"#,
        r#"{"key":"Zm9v","sort_order":"FOO"}"#,
        r#"{"key":"Zm9v","sort_order":"1"}"#,
        r#"{"key":"\u005am9v"}"#,
        r#"{"key":"Zm\n9v"}"#,
        " \n{\"key\"\t: \"Zm9v\"\r\n}",
    ] {
        let read = answered(&post(&member, "/v3/kv/range", body).await?);
        assert_eq!((&read["count"], &read["kvs"][0]["value"]), (&json!("1"), &json!("YmFy")), "{body}");
    }
    // Either alphabet, with and without padding; bits that are left over do not matter.
    let odd = [0xfb, 0xff];
    member.put(request::put(odd, "odd")).await?;
    for key in ["+/8=", "+/8", "-_8=", "-_8", "+/9="] {
        let read = answered(&post(&member, "/v3/kv/range", &json!({"key": key}).to_string()).await?);
        assert_eq!(read["kvs"][0]["value"], json!(base64("odd")), "{key}");
    }
    for body in ["", "  ", "{}"] {
        let response = post(&member, "/v3/kv/range", body).await?;
        assert_refused(&member, &response, 400, 3, "etcdserver: key is not provided");
    }
    Ok(())
}

async fn unions_may_be_named_as_in_older_gateways(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let txn = r#"{"compare":[{"key":"Zg==","TargetUnion":{"version":"0"}}],"success":[{"Request":{"request_put":{"key":"Zg=="}}}]}"#;
    let response = post(&member, "/v3/kv/txn", txn).await?;
    match Difference::NamedUnionsAreRead.shows(target) {
        false => assert_refused(&member, &response, 400, 3, "etcdserver: key not found"),
        true => assert_eq!(answered(&response)["succeeded"], json!(true)),
    }
    Ok(())
}

async fn wrong_requests_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let texts_are_etcds = [
        ("hello", "invalid character 'h' looking for beginning of value"),
        ("{\"key\":", "unexpected EOF"),
        ("[]", "proto: syntax error (line 1:1): unexpected token ["),
        (r#"{"key":"foo!"}"#, r#"proto: (line 1:8): invalid value for bytes field key: "foo!""#),
        (r#"{"key":"Zg="}"#, r#"proto: (line 1:8): invalid value for bytes field key: "Zg=""#),
        (r#"{"key":5}"#, "proto: (line 1:8): invalid value for bytes field key: 5"),
        (r#"{"limit":"1.5"}"#, r#"proto: (line 1:10): invalid value for int64 field limit: "1.5""#),
        (r#"{"limit":true}"#, "proto: (line 1:10): invalid value for int64 field limit: true"),
        (r#"{"serializable":1}"#, "proto: (line 1:17): invalid value for bool field serializable: 1"),
    ];
    for (body, text) in texts_are_etcds {
        let (status, code, message) = refused(&member, &post(&member, "/v3/kv/range", body).await?);
        // Go's library sometimes puts a space in there that is none, so that nobody relies on its words.
        assert_eq!((status, code, message.replace('\u{a0}', " ")), (400, 3, text.to_owned()), "{body}");
    }
    let bodies = [
        "null",
        "5",
        "\"x\"",
        "{'key':1}",
        r#"{"key":"Zm9v",}"#,
        r#"{"limit":01}"#,
        r#"{"key":"a	b"}"#,
        r#"{"key":"\ud800"}"#,
        r#"{"key":"","key":""}"#,
        r#"{"sort_order":99999999999}"#,
        r#"{"sort_order":{}}"#,
        r#"{"limit":9223372036854775808}"#,
    ];
    for body in bodies {
        let (status, code, _) = refused(&member, &post(&member, "/v3/kv/range", body).await?);
        assert_eq!((status, code), (400, 3), "{body}");
    }
    let bodies =
        [r#"{"compare":[null]}"#, r#"{"compare":{}}"#, r#"{"success":[{"request_range":{},"request_put":{}}]}"#];
    for body in bodies {
        let (status, code, _) = refused(&member, &post(&member, "/v3/kv/txn", body).await?);
        assert_eq!((status, code), (400, 3), "{body}");
    }
    for body in [&b"\xff\xfe"[..], b"{\"key\":\"\xff\"}"] {
        let response = http::post(member.address(), "/v3/kv/range", &[], body).await?;
        assert_eq!(refused(&member, &response).0, 400);
    }
    Ok(())
}

async fn deep_nesting_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let array = |depth: usize| format!(r#"{{"key":"Zg==","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    answered(&post(&member, "/v3/kv/range", &array(9_990)).await?);
    let text = "invalid character '[' exceeded max depth";
    // Nothing follows what is too much, or etcd may hang up on who is still sending.
    let too_deep = format!(r#"{{"x":{}"#, "[".repeat(10_000));
    assert_refused(&member, &post(&member, "/v3/kv/range", &too_deep).await?, 400, 3, text);
    if target == Target::Quorate {
        assert_refused(&member, &post(&member, "/v3/kv/range", &array(1_000_000)).await?, 400, 3, text);
    }
    let txn = |depth: usize| format!("{}{{}}{}", r#"{"success":[{"request_txn":"#.repeat(depth), "}]}".repeat(depth));
    assert_eq!(answered(&post(&member, "/v3/kv/txn", &txn(20)).await?)["succeeded"], json!(true));
    let too_many = "etcdserver: too many operations in txn request";
    assert_refused(&member, &post(&member, "/v3/kv/txn", &txn(200)).await?, 400, 3, too_many);
    Ok(())
}

async fn large_requests_are_refused_and_large_answers_come_whole(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let put = |len: usize| json!({"key": base64("k"), "value": BASE64_STANDARD.encode(vec![7; len])}).to_string();
    answered(&post(&member, "/v3/kv/put", &put(1_500_000)).await?);
    assert_refused(
        &member,
        &post(&member, "/v3/kv/put", &put(1_600_000)).await?,
        400,
        3,
        "etcdserver: request is too large",
    );
    let too_large = "grpc: received message larger than max (2097157 vs. 2097152)";
    assert_refused(&member, &post(&member, "/v3/kv/put", &put(2_097_150)).await?, 429, 8, too_large);
    let (status, code, text) = refused(&member, &post(&member, "/v3/kv/put", &put(20_000_000)).await?);
    assert_eq!((status, code), (429, 8));
    assert!(text.starts_with("grpc: received message larger than max (20000"), "{text}");
    let ignored = format!(r#"{{"key":"Zg==","x":"{}"}}"#, "y".repeat(20_000_000));
    let response = post(&member, "/v3/kv/range", &ignored).await?;
    match Difference::HugeTextIsRefused.shows(target) {
        false => assert_eq!(answered(&response), json!({})),
        true => assert_eq!(refused(&member, &response).1, 8),
    }

    for index in 0..10 {
        member.put(request::put(format!("many/{index}"), vec![index; 700_000])).await?;
    }
    let all = call(&member, "/v3/kv/range", json!({"key": base64("many/"), "range_end": base64("many0")})).await?;
    assert_eq!((all["count"].as_str(), all["kvs"].as_array().unwrap().len()), (Some("10"), 10));
    for (index, kv) in (0..).zip(all["kvs"].as_array().unwrap()) {
        assert_eq!(kv["key"], json!(base64(&format!("many/{index}"))));
        assert!(kv["value"] == json!(BASE64_STANDARD.encode(vec![index; 700_000])), "the value of key {index}");
    }
    Ok(())
}

async fn headers_carry_what_metadata_does(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let range =
        |headers: &'static [&'static str]| http::post(member.address(), "/v3/kv/range", headers, br#"{"key":"Zg=="}"#);
    assert_refused(&member, &range(&["Grpc-Timeout: 1n"]).await?, 504, 4, "context deadline exceeded");
    assert_refused(&member, &range(&["Grpc-Timeout: xx"]).await?, 400, 3, "invalid grpc-timeout: xx");
    answered(&range(&["Grpc-Timeout: 10S", "Content-Type: text/plain", "Authorization: anything"]).await?);
    answered(&range(&["Grpc-Metadata-hasleader: true"]).await?);
    let origin = range(&["Origin: http://elsewhere"]).await?;
    assert_eq!(origin.header("access-control-allow-origin"), Some("*"));
    assert_eq!(origin.header("access-control-allow-headers"), Some("accept, content-type, authorization"));
    Ok(())
}

async fn only_listed_origins_may_call(target: Target) -> Result<()> {
    let listed = "http://a.example:1,http://b.example:8080";
    let member = Member::start_with(target, &[("cors", listed)]).await?;
    for (origin, allowed) in [
        ("Origin: http://a.example:1", Some("http://a.example:1")),
        ("Origin: http://b.example:8080", Some("http://b.example:8080")),
        ("Origin: http://c.example:1", None),
        ("X-Nothing: x", None),
    ] {
        for path in ["/v3/kv/range", "/v3/watch", "/v3/nope", "/version"] {
            let response = http::post(member.address(), path, &[origin, "Grpc-Timeout: 10m"], b"{}").await?;
            assert_eq!(response.header("access-control-allow-origin"), allowed, "{origin} {path}");
            for name in ["access-control-allow-methods", "access-control-allow-headers"] {
                assert_eq!(response.header(name).is_some(), allowed.is_some(), "{name}: {origin} {path}");
            }
        }
    }
    Ok(())
}

async fn a_connection_serves_one_request_after_another(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let one = "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"key\":\"Zm9v\"}";
    let chunked = "POST /v3beta/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n{\"key\r\n9\r\n\":\"Zm9v\"}\r\n0\r\n\r\n";
    let answer = http::exchange(member.address(), [one, one, chunked].concat().as_bytes()).await?;
    let answer = String::from_utf8(answer)?;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(answer.matches("raft_term").count(), 3, "{answer}");
    Ok(())
}

/// Also where a body says more than is listened to, or ends after what matters of it has come.
async fn a_connection_outlives_what_follows_a_request(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut connection = TcpStream::connect(member.address()).await?;
    for body in [r#"{"key":"Zm9v"}"#, r#"{"key":"Zm9v"} and more"#, "zz"] {
        let long = format!("{body}{}", "y".repeat(50_000));
        let head = format!("POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", long.len());
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(long.as_bytes()).await?;
        let expected = if body == "zz" { "400 Bad Request" } else { "200 OK" };
        assert_eq!(read_answer(&mut connection).await?, expected, "{body}");

        connection.write_all(b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        connection.write_all(format!("{:x}\r\n{body}\r\n", body.len()).as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        connection.write_all(b"0\r\n\r\n").await?;
        assert_eq!(read_answer(&mut connection).await?, expected, "{body}");
    }
    for (path, expected) in
        [("/v3/nope", "404 Not Found"), ("/nope", "404 Not Found"), ("/version", "405 Method Not Allowed")]
    {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n");
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(&[b'y'; 200_000]).await?;
        assert_eq!(read_answer(&mut connection).await?, expected, "{path}");
    }
    Ok(())
}

/// Reads an answer whose length is announced; returns its status.
async fn read_answer(connection: &mut TcpStream) -> Result<String> {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let len =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= len.context("the length of the answer")? {
                let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
                return Ok(status.context("a status")?.to_owned());
            }
        }
        let read = within(Duration::from_secs(10), connection.read_buf(&mut answer)).await??;
        anyhow::ensure!(read > 0, "the connection ends after {text:?}");
    }
}

/// The head of a request with a body that is not sent yet.
fn head(method: &str, path: &str, headers: &[&str]) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes()
}

/// What does not depend on a body, and how it is answered.
const NEEDS_NO_BODY: [(&str, &str, &str); 6] = [
    ("POST", "/nope", "404 Not Found"),
    ("POST", "/v3/nope", "404 Not Found"),
    ("POST", "/version", "405 Method Not Allowed"),
    ("PUT", "/v3/kv/range", "501 Not Implemented"),
    ("POST", "/v3//kv/range", "301 Moved Permanently"),
    ("GET", "/health", "200 OK"),
];

async fn an_answer_does_not_wait_for_a_body_that_nobody_wants(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for (method, path, expected) in NEEDS_NO_BODY {
        for announced in [&["Content-Length: 300000"][..], &["Content-Length: 10", "Expect: 100-continue"]] {
            let mut connection = TcpStream::connect(member.address()).await?;
            connection.write_all(&head(method, path, announced)).await?;
            let answer = read_head(&mut connection).await?;
            assert!(
                answer.starts_with(&format!("http/1.1 {}", expected.to_lowercase())),
                "{path} {announced:?}: {answer}"
            );
            assert!(answer.contains("\r\nconnection: close\r\n"), "{path} {announced:?}: {answer}");
        }
        for announced in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
            let mut connection = TcpStream::connect(member.address()).await?;
            connection.write_all(&head(method, path, &[announced])).await?;
            if !Difference::UnwantedBodiesAreNotAwaited.shows(target) {
                assert!(read_head(&mut connection).await.is_err(), "{path} {announced}");
                continue;
            }
            let answer = read_head(&mut connection).await?;
            assert!(
                answer.starts_with(&format!("http/1.1 {}", expected.to_lowercase())),
                "{path} {announced}: {answer}"
            );
            assert!(!answer.contains("\r\nconnection: close\r\n"), "{path} {announced}: {answer}");
        }
    }
    let huge = head("POST", "/v3/kv/put", &["Content-Length: 20000000", "Expect: 100-continue"]);
    let mut connection = TcpStream::connect(member.address()).await?;
    connection.write_all(&huge).await?;
    let answer = read_head(&mut connection).await?;
    let expected =
        if Difference::HugeTextIsNotAwaited.shows(target) { "429 too many requests" } else { "100 continue" };
    assert!(answer.starts_with(&format!("http/1.1 {expected}\r\n")), "{answer}");
    Ok(())
}

/// Reads an answer's head, in lower case.
async fn read_head(connection: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(Duration::from_secs(2), connection.read_u8()).await??);
    }
    Ok(String::from_utf8(head)?.to_lowercase())
}

/// A client that sends all it has before it reads. Whether it gets that far is a matter of time with etcd.
async fn who_sends_a_body_that_nobody_wants_hears_the_answer(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let len = if target == Target::Etcd { 200_000 } else { 20_000_000 };
    for (method, path, expected) in NEEDS_NO_BODY {
        let whole = [head(method, path, &[&format!("Content-Length: {len}")]), vec![b'y'; len]].concat();
        let chunked = head(method, path, &["Transfer-Encoding: chunked"]);
        let chunk = [format!("{len:x}\r\n").as_bytes(), &vec![b'y'; len], b"\r\n0\r\n\r\n"].concat();
        for request in [whole, [chunked, chunk].concat()] {
            let mut connection = TcpStream::connect(member.address()).await?;
            connection.write_all(&request).await?;
            assert_eq!(read_answer(&mut connection).await?, expected, "{path}");
            if len > 256 << 10 {
                assert_eq!(within(Duration::from_secs(5), connection.read(&mut [0])).await??, 0, "{path}");
            }
        }
    }
    Ok(())
}

async fn bodies_that_end_early_or_are_garbled_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let chunked = "Transfer-Encoding: chunked";
    let length = "Content-Length: 100";
    let whole = r#"{"key":"aw=="}"#;
    for (headers, body, expected, told) in [
        (&[length][..], r#"{"key":"aw=="#, 400, "unexpected EOF"),
        (&[chunked], "5\r\n{\"ke", 400, "unexpected EOF"),
        // What counts is there.
        (&[length], whole, 200, "raft_term"),
        (&[chunked], &format!("e\r\n{whole}\r\n"), 200, "raft_term"),
        (&[chunked], &format!("e\r\n{whole}xx0\r\n\r\n"), 200, "raft_term"),
        (&[chunked], &format!("zz\r\n{whole}\r\n0\r\n\r\n"), 400, ""),
        (&["Content-Length: 14", "Content-Length: 15"], whole, 400, ""),
        (&["Content-Length: -1"], whole, 400, ""),
    ] {
        let mut connection = TcpStream::connect(member.address()).await?;
        connection.write_all(&[&head("POST", "/v3/kv/range", headers), body.as_bytes()].concat()).await?;
        connection.shutdown().await?;
        let mut answer = Vec::new();
        within(Duration::from_secs(5), connection.read_to_end(&mut answer)).await??;
        let answer = String::from_utf8(answer)?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")) && answer.contains(told),
            "{headers:?} {body}: {answer}"
        );
    }
    Ok(())
}

/// However little text it takes.
async fn messages_that_are_too_large_are_refused_with_their_size(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let compares = format!(r#"{{"compare":[{}{{}}]}}"#, "{},".repeat(1_199_999));
    let text = "grpc: received message larger than max (2400000 vs. 2097152)";
    assert_refused(&member, &post(&member, "/v3/kv/txn", &compares).await?, 429, 8, text);
    let value = BASE64_STANDARD.encode(vec![7; 2_097_150]);
    let put = format!(r#"{{"key":"aw==","value":"{value}"}}"#);
    let request = [
        head("POST", "/v3/kv/put", &["Transfer-Encoding: chunked", "Connection: close"]),
        format!("{:x}\r\n{put}\r\n0\r\n\r\n", put.len()).into_bytes(),
    ];
    let answer = String::from_utf8(http::exchange(member.address(), &request.concat()).await?)?;
    let text = "grpc: received message larger than max (2097157 vs. 2097152)";
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains(text), "{answer}");
    Ok(())
}

async fn the_gateway_can_be_turned_off(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("enable-grpc-gateway", "false")]).await?;
    for path in ["/v3/kv/range", "/v3beta/kv/range", "/v3/", "/v3"] {
        let response = post(&member, path, "{}").await?;
        assert_eq!((response.status, response.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
    assert_eq!(http::get(member.address(), "/health").await?.status, 200);
    Ok(())
}

e2e::on_both_targets!(
    keys_are_put_read_and_deleted,
    a_transaction_is_made,
    leases_are_granted_and_revoked,
    the_cluster_is_shown_and_changed,
    maintenance_is_done,
    locks_and_elections_are_held,
    what_is_not_there_is_said_to_be_missing,
    methods_that_come_later_are_named,
    requests_may_be_written_in_many_ways,
    unions_may_be_named_as_in_older_gateways,
    wrong_requests_are_refused,
    deep_nesting_is_refused,
    large_requests_are_refused_and_large_answers_come_whole,
    headers_carry_what_metadata_does,
    only_listed_origins_may_call,
    a_connection_serves_one_request_after_another,
    a_connection_outlives_what_follows_a_request,
    an_answer_does_not_wait_for_a_body_that_nobody_wants,
    who_sends_a_body_that_nobody_wants_hears_the_answer,
    bodies_that_end_early_or_are_garbled_are_refused,
    messages_that_are_too_large_are_refused_with_their_size,
    the_gateway_can_be_turned_off,
);
