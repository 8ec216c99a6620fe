//! gRPC itself: what is not a proper call gets etcd's answer, and connection and server live on.

use anyhow::Result;
use bytes::Bytes;
use e2e::refusal::Refusal;
use e2e::request::{get, put};
use e2e::{Member, Target, fails};
use testkit::grpc::{Code, RawRequest, Status, frame};

const PUT: &str = "/etcdserverpb.KV/Put";

/// Sends `request` and expects it refused; the connection must go on.
async fn refused(member: &Member, request: RawRequest, (code, message): Refusal) -> Result<()> {
    let answer = member.raw(request.clone()).await?;
    assert_eq!(answer.outcome(), Some(Err(Status::new(code, message))), "{request:?} got {answer:?}");
    member.range(get("a")).await?;
    Ok(())
}

async fn answers_look_like_grpc(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = member.raw(RawRequest::grpc(PUT, frame(&put("a", "1")))).await?;
    assert_eq!(answer.http_status.as_u16(), 200);
    assert_eq!(answer.headers.get("content-type").map(|value| value.as_bytes()), Some(&b"application/grpc"[..]));
    assert_eq!(answer.body[..5], [0, 0, 0, 0, (answer.body.len() - 5) as u8]);
    assert_eq!(answer.outcome(), Some(Ok(())));
    assert!(answer.trailers.is_some());
    Ok(())
}

async fn unknown_methods_and_services_are_named(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let cases = [
        ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
        ("/foo.Bar/Baz", "unknown service foo.Bar"),
        ("/etcdserverpb.KV/", "unknown method  for service etcdserverpb.KV"),
    ];
    for (path, message) in cases {
        refused(&member, RawRequest::grpc(path, frame(&put("a", "1"))), (Code::Unimplemented, message)).await?;
    }
    Ok(())
}

async fn a_path_without_a_method_is_malformed(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let request = RawRequest::grpc("/nothing", frame(&put("a", "1")));
    refused(&member, request, (Code::Unimplemented, "malformed method name: \"/nothing\"")).await
}

fn prefixed(body: &[u8]) -> Bytes {
    [&[0, 0, 0, 0, body.len() as u8], body].concat().into()
}

async fn undecodable_messages_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    // Cut off in: a field, its length, its tag, before and in a number.
    for body in [&b"\x0a\x7fa"[..], b"\x0a\x81", b"\x8a", b"\x0a\x01a\x18", b"\x0a\x01a\x18\x80"] {
        let expected = (Code::Internal, "grpc: error unmarshalling request: unexpected EOF");
        refused(&member, RawRequest::grpc(PUT, prefixed(body)), expected).await?;
    }
    let too_long_a_number = [0xff; 12];
    let answer = member.raw(RawRequest::grpc(PUT, prefixed(&too_long_a_number))).await?;
    let status = answer.outcome().unwrap().unwrap_err();
    assert_eq!(status.code, Code::Internal);
    assert!(status.message.starts_with("grpc: error unmarshalling request: "), "{}", status.message);
    member.range(get("a")).await?;
    Ok(())
}

async fn unknown_fields_are_skipped(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    // key = "a", field 99 = 1, value = "v"
    let body = b"\0\0\0\0\x09\x0a\x01a\x98\x06\x01\x12\x01v";
    let answer = member.raw(RawRequest::grpc(PUT, Bytes::from_static(body))).await?;
    assert_eq!(answer.outcome(), Some(Ok(())));
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "v");
    Ok(())
}

async fn unknown_compressions_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let compressed = Bytes::from_static(b"\x01\0\0\0\x03abc");
    let message = "grpc: Decompressor is not installed for grpc-encoding \"deflate\"";
    let request = RawRequest::grpc(PUT, compressed).header("grpc-encoding", "deflate");
    refused(&member, request, (Code::Unimplemented, message)).await
}

async fn messages_over_the_receive_limit_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let limit = 1_572_864 + 524_288;
    let request = put("a", vec![0; limit]);
    let message = format!("grpc: received message larger than max ({} vs. {limit})", frame(&request).len() - 5);
    assert_eq!(member.put(request).await, Err(Status::new(Code::ResourceExhausted, message)));
    // A prefix that promises 4 GiB is refused before they come.
    let promise = Bytes::from_static(b"\0\xff\xff\xff\xff");
    let message = format!("grpc: received message larger than max (4294967295 vs. {limit})");
    let answer = member.raw(RawRequest::grpc(PUT, promise)).await?;
    assert_eq!(answer.outcome(), Some(Err(Status::new(Code::ResourceExhausted, message))));
    member.put(put("a", "1")).await?;
    Ok(())
}

async fn an_empty_message_is_a_message_of_defaults(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let request = RawRequest::grpc("/etcdserverpb.Cluster/MemberList", Bytes::from_static(b"\0\0\0\0\0"));
    assert_eq!(member.raw(request).await?.outcome(), Some(Ok(())));
    let request = RawRequest::grpc(PUT, Bytes::from_static(b"\0\0\0\0\0"));
    refused(&member, request, e2e::refusal::EMPTY_KEY).await
}

async fn metadata_that_is_not_text_does_no_harm(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for name in ["token", "authorization", "x-anything", "hasleader"] {
        let request = RawRequest::grpc(PUT, frame(&put("a", "1"))).header(name, b"\xff\xfe\x80".to_vec());
        assert_eq!(member.raw(request).await?.outcome(), Some(Ok(())), "{name}");
    }
    Ok(())
}

async fn other_content_types_are_not_grpc(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let proto = RawRequest::grpc(PUT, frame(&put("a", "1"))).header("content-type", "application/grpc+proto");
    assert_eq!(member.raw(proto).await?.outcome(), Some(Ok(())));
    let text = RawRequest::grpc(PUT, frame(&put("a", "1"))).header("content-type", "text/plain");
    let answer = member.raw(text).await?;
    assert_ne!(answer.outcome(), Some(Ok(())), "{answer:?}");
    member.range(get("a")).await?;
    Ok(())
}

async fn a_deadline_in_the_past_fails_only_its_call(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let request = RawRequest::grpc(PUT, frame(&put("a", "1"))).header("grpc-timeout", "1n");
    let answer = member.raw(request).await;
    if let Ok(answer) = answer {
        let code = answer.outcome().and_then(Result::err).map(|status| status.code);
        assert_eq!(code, Some(Code::DeadlineExceeded), "{answer:?}");
    }
    member.put(put("b", "1")).await?;
    Ok(())
}

async fn many_calls_share_a_connection(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let calls: Vec<_> = (0..500)
        .map(|number| {
            let client = testkit::grpc::Client::clone(&member);
            tokio::spawn(async move { client.put(put(format!("k{number}"), "v")).await })
        })
        .collect();
    let mut revisions = Vec::new();
    for call in calls {
        revisions.push(e2e::revision(&call.await??.header));
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (2..502).collect::<Vec<_>>());
    fails(member.put(put("", "")).await, e2e::refusal::EMPTY_KEY);
    Ok(())
}

async fn no_streams_allowed_means_no_limit(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("max-concurrent-streams", "0")]).await?;
    member.put(put("a", "1")).await?;
    Ok(())
}

e2e::on_both_targets!(
    answers_look_like_grpc,
    unknown_methods_and_services_are_named,
    a_path_without_a_method_is_malformed,
    undecodable_messages_are_refused,
    unknown_fields_are_skipped,
    unknown_compressions_are_refused,
    messages_over_the_receive_limit_are_refused,
    an_empty_message_is_a_message_of_defaults,
    metadata_that_is_not_text_does_no_harm,
    other_content_types_are_not_grpc,
    a_deadline_in_the_past_fails_only_its_call,
    many_calls_share_a_connection,
    no_streams_allowed_means_no_limit,
);
