//! What a call's messages may be made of, and what is said of those that are broken.

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, WatchRequest, WatchResponse};
use bytes::Bytes;
use e2e::request::{get, lease, put, watch, watch_create};
use e2e::{Member, Target, fails};
use testkit::grpc::{Code, RawRequest, Status, Stream, frame};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

async fn outcome(member: &Member, request: RawRequest) -> Result<Result<(), Status>> {
    member.raw(request).await?.outcome().context("the answer has a status")
}

/// A put of a=zipped, compressed with gzip.
const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xe3\x62\x4c\x14\x62\xab\xca\x2c\x28\x48\x4d\x01\
    \x00\x29\xdd\xbc\x23\x0b\x00\x00\x00";

fn gzipped() -> Bytes {
    let len = u32::try_from(GZIPPED.len()).expect("it is short");
    [&[1][..], &len.to_be_bytes(), GZIPPED].concat().into()
}

async fn gzip_is_understood(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    assert_eq!(outcome(&member, RawRequest::grpc(PUT, gzipped()).header("grpc-encoding", "gzip")).await?, Ok(()));
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "zipped");
    // The encoding is announced, this message does not use it.
    let plain = RawRequest::grpc(PUT, frame(&put("a", "plain"))).header("grpc-encoding", "gzip");
    assert_eq!(outcome(&member, plain).await?, Ok(()));
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "plain");
    let identity = RawRequest::grpc(PUT, frame(&put("a", "same"))).header("grpc-encoding", "identity");
    assert_eq!(outcome(&member, identity).await?, Ok(()));
    Ok(())
}

async fn broken_gzip_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let gzip = |change: fn(&mut Vec<u8>)| {
        let mut data = GZIPPED.to_vec();
        change(&mut data);
        let len = u32::try_from(data.len()).expect("it is short");
        [&[1][..], &len.to_be_bytes(), &data].concat()
    };
    let cases = [
        (gzip(|data| data[0] = 0), "grpc: failed to decompress the message: gzip: invalid header"),
        (gzip(|data| data.clear()), "grpc: failed to decompress the message: EOF"),
        (gzip(|data| data.truncate(9)), "grpc: failed to decompress the message: unexpected EOF"),
        (gzip(|data| data.truncate(10)), "grpc: failed to read decompressed data: unexpected EOF"),
        (gzip(|data| data.truncate(data.len() - 1)), "grpc: failed to read decompressed data: unexpected EOF"),
        (gzip(|data| data[15] ^= 0xff), "grpc: failed to read decompressed data: gzip: invalid checksum"),
        (gzip(|data| data[30] ^= 1), "grpc: failed to read decompressed data: gzip: invalid checksum"),
        (gzip(|data| data.push(0)), "grpc: failed to read decompressed data: unexpected EOF"),
    ];
    for (broken, text) in cases {
        let refused = outcome(&member, RawRequest::grpc(PUT, broken).header("grpc-encoding", "gzip")).await?;
        assert_eq!(refused, Err(Status::new(Code::Internal, text)));
    }
    // How far etcd came it says behind this.
    let corrupt = RawRequest::grpc(PUT, gzip(|data| data[10] = 0xff)).header("grpc-encoding", "gzip");
    let status = outcome(&member, corrupt).await?.err().context("it was taken")?;
    ensure!(status.message.starts_with("grpc: failed to read decompressed data: flate: corrupt input"), "{status:?}");
    member.put(put("b", "1")).await?;
    Ok(())
}

async fn flags_say_whether_a_message_is_compressed(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut body = frame(&put("a", "1")).to_vec();
    for (flag, text) in [
        (1, "grpc: compressed flag set with identity or empty encoding"),
        (2, "grpc: received unexpected payload format 2"),
        (255, "grpc: received unexpected payload format 255"),
    ] {
        body[0] = flag;
        let refused = outcome(&member, RawRequest::grpc(PUT, body.clone())).await?;
        assert_eq!(refused, Err(Status::new(Code::Internal, text)));
    }
    assert_eq!(member.range(get("a")).await?.count, 0);
    Ok(())
}

async fn calls_that_end_in_the_middle_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let whole = frame(&put("a", "1"));
    for (end, text) in [(3, "EOF"), (5, "unexpected EOF"), (whole.len() - 1, "unexpected EOF")] {
        let refused = outcome(&member, RawRequest::grpc(PUT, whole.slice(..end))).await?;
        let status = refused.err().with_context(|| format!("{end} bytes were enough"))?;
        assert_eq!((status.code, status.message.as_str()), (Code::Unknown, text), "{end} bytes");
    }
    assert_eq!(member.range(get("a")).await?.count, 0);
    Ok(())
}

async fn a_second_message_of_a_unary_call_is_not_looked_at(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let two = [frame(&put("a", "1")), frame(&put("b", "2"))].concat();
    assert_eq!(outcome(&member, RawRequest::grpc(PUT, two)).await?, Ok(()));
    assert_eq!((member.range(get("a")).await?.count, member.range(get("b")).await?.count), (1, 0));
    Ok(())
}

/// Of a stream only itself ends, whatever it was sent.
async fn a_broken_message_ends_its_stream(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    let cut = Bytes::from_static(b"\0\0\0\0\x03\x0a\x7fa");
    let mut other: Stream<WatchRequest, WatchResponse> = member.stream(WATCH, &[]).await?;
    other.send(&watch_create(watch("a")))?;
    ensure!(other.next().await?.is_some_and(|response| response.created));

    let mut watching: Stream<WatchRequest, WatchResponse> = member.stream(WATCH, &[]).await?;
    watching.send(&watch_create(watch("a")))?;
    ensure!(watching.next().await?.is_some_and(|response| response.created));
    watching.outgoing.send_bytes(cut.clone())?;
    let status = watching.next().await.err().context("the watch stream goes on")?;
    assert_eq!(status.code, Code::Internal, "{status:?}");
    ensure!(status.message.starts_with("grpc: failed to unmarshal the received message"), "{status:?}");

    let mut keeping: Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse> = member.stream(KEEP_ALIVE, &[]).await?;
    keeping.send(&LeaseKeepAliveRequest { id: 5 })?;
    ensure!(keeping.next().await?.is_some_and(|answer| answer.ttl == 100));
    keeping.outgoing.send_bytes(Bytes::from_static(b"\0\0\0\0\x02\x08\xff"))?;
    let status = keeping.next().await.err().context("the keepalive stream goes on")?;
    assert_eq!(status.code, Code::Internal, "{status:?}");

    member.put(put("a", "1")).await?;
    ensure!(other.next().await?.is_some_and(|response| response.events.len() == 1));
    Ok(())
}

async fn a_message_too_large_ends_its_stream(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut watching: Stream<WatchRequest, WatchResponse> = member.stream(WATCH, &[]).await?;
    watching.outgoing.send_bytes(Bytes::from_static(b"\0\x7f\xff\xff\xff"))?;
    let text = format!("grpc: received message larger than max (2147483647 vs. {})", 1_572_864 + 524_288);
    assert_eq!(watching.next().await, Err(Status::new(Code::ResourceExhausted, text)));
    member.put(put("a", "1")).await?;
    Ok(())
}

/// What is wrong with a request is told in a fixed order: what it asks, then how large it is.
async fn a_request_is_read_before_it_is_measured(target: Target) -> Result<()> {
    use e2e::refusal::{DUPLICATE_KEY, EMPTY_KEY, REQUEST_TOO_LARGE, VALUE_PROVIDED};
    use e2e::request::{op_put, txn};
    let member = Member::start(target).await?;
    let large = vec![0; 1_600_000];
    fails(member.put(put("a", &large)).await, REQUEST_TOO_LARGE);
    fails(member.put(put("", &large)).await, EMPTY_KEY);
    let kept = api::etcdserverpb::PutRequest { ignore_value: true, ..put("a", &large) };
    fails(member.put(kept).await, VALUE_PROVIDED);
    fails(member.txn(txn([op_put("a", &large), op_put("a", "")])).await, DUPLICATE_KEY);
    let lease = api::etcdserverpb::PutRequest { lease: 99, ..put("a", &large) };
    fails(member.put(lease).await, REQUEST_TOO_LARGE);
    Ok(())
}

async fn a_leader_that_is_asked_for_is_there(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let required: testkit::grpc::Metadata<'_> = &[("hasleader", b"true"), ("client-api-version", b"3.5")];
    let _: api::etcdserverpb::PutResponse = member.unary_with(PUT, required, &put("a", "1")).await?;
    let mut watching: Stream<WatchRequest, WatchResponse> = member.stream(WATCH, required).await?;
    watching.send(&watch_create(watch("a")))?;
    ensure!(watching.next().await?.is_some_and(|response| response.created));
    member.put(put("a", "2")).await?;
    ensure!(watching.next().await?.is_some_and(|response| response.events.len() == 1));
    Ok(())
}

async fn deadlines_that_are_none_are_refused_in_http(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for timeout in ["5", "S", "123456789S", "5x", "-1S"] {
        let answer = member.raw(RawRequest::grpc(PUT, frame(&put("a", "1"))).header("grpc-timeout", timeout)).await?;
        ensure!(answer.outcome() != Some(Ok(())), "{timeout} was taken");
    }
    // Bytes that are no text are quoted one by one.
    let odd = RawRequest::grpc(PUT, frame(&put("a", "1"))).header("grpc-timeout", b"\xff'S");
    let text = r#"malformed grpc-timeout: strconv.ParseUint: parsing "\xff'": invalid syntax"#;
    assert_eq!(outcome(&member, odd).await?, Err(Status::new(Code::Internal, text)));
    let passed = RawRequest::grpc(PUT, frame(&put("a", "1"))).header("grpc-timeout", "99999999H");
    assert_eq!(outcome(&member, passed).await?, Ok(()));
    Ok(())
}

e2e::on_both_targets!(
    gzip_is_understood,
    broken_gzip_is_refused,
    flags_say_whether_a_message_is_compressed,
    calls_that_end_in_the_middle_are_refused,
    a_second_message_of_a_unary_call_is_not_looked_at,
    a_broken_message_ends_its_stream,
    a_message_too_large_ends_its_stream,
    a_request_is_read_before_it_is_measured,
    a_leader_that_is_asked_for_is_there,
    deadlines_that_are_none_are_refused_in_http,
);
