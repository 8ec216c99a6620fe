//! The bytes of a message are those of etcd's `WatchResponse`.

mod common;

use api::etcdserverpb::{ResponseHeader, WatchResponse};
use api::mvccpb;
use common::*;
use prost::Message as _;
use types::KeyRange;
use watch::{CreateRequest, HubOptions, LogLimits, Message};

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 7, member_id: 8, revision, raft_term: 9 })
}

fn decode(message: &Message) -> WatchResponse {
    let encoded = encode(message);
    for share_bytes_min in [1, 50, 1 << 20] {
        assert_eq!(message.encode_chunks(&HEADER, share_bytes_min).concat(), encoded);
    }
    WatchResponse::decode(encoded.as_slice()).expect("what was encoded decodes")
}

fn kv(key: &str, numbers: (i64, i64, i64), value: &str) -> Option<mvccpb::KeyValue> {
    let (create_revision, mod_revision, version) = numbers;
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Some(mvccpb::KeyValue { key, create_revision, mod_revision, version, value, lease: 0 })
}

fn responses(request: &CreateRequest) -> Vec<WatchResponse> {
    let mut store = Store::new(LogLimits::default());
    let mut hub = hub(&store, HubOptions::default());
    let stream = hub.open_stream();
    hub.create(stream, request, START);
    store.commit([put("a", "1"), put("b", &"x".repeat(200))]);
    store.commit([put("a", "2")]);
    store.commit([delete("a")]);
    hub.cancel(stream, request.watch_id);
    drain(&mut hub, stream, &store).iter().map(decode).collect()
}

#[test]
fn events_carry_key_values_and_deletions_key_and_revision_only() {
    let request = CreateRequest { watch_id: 1 << 40, ..CreateRequest::new(KeyRange::single("a")) };
    let base = WatchResponse { watch_id: 1 << 40, ..WatchResponse::default() };
    let put = |kv| mvccpb::Event { r#type: mvccpb::event::EventType::Put as i32, kv, prev_kv: None };
    let delete =
        mvccpb::Event { r#type: mvccpb::event::EventType::Delete as i32, kv: kv("a", (0, 4, 0), ""), prev_kv: None };
    let expected = [
        WatchResponse { header: header(1), created: true, ..base.clone() },
        WatchResponse { header: header(2), events: vec![put(kv("a", (2, 2, 1), "1"))], ..base.clone() },
        WatchResponse { header: header(3), events: vec![put(kv("a", (2, 3, 2), "2"))], ..base.clone() },
        WatchResponse { header: header(4), events: vec![delete], ..base.clone() },
        WatchResponse { header: header(4), canceled: true, ..base },
    ];
    assert_eq!(responses(&request), expected);
}

#[test]
fn prev_kv_is_there_if_asked_for_and_existing() {
    let request = CreateRequest { prev_kv: true, ..CreateRequest::new(KeyRange::prefix(b"")) };
    let previous: Vec<Option<mvccpb::KeyValue>> =
        responses(&request).into_iter().flat_map(|response| response.events).map(|event| event.prev_kv).collect();
    assert_eq!(previous, [None, None, kv("a", (2, 2, 1), "1"), kv("a", (2, 3, 2), "2")]);
}

#[test]
fn refusals_and_negative_ids_are_encoded() {
    let store = Store::new(LogLimits::default());
    let mut hub = hub(&store, HubOptions::default());
    let stream = hub.open_stream();
    hub.refuse(stream, "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    let messages = drain(&mut hub, stream, &store);
    let expected = WatchResponse {
        header: header(1),
        watch_id: -1,
        created: true,
        canceled: true,
        cancel_reason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied".into(),
        ..WatchResponse::default()
    };
    assert_eq!(messages.iter().map(decode).collect::<Vec<_>>(), [expected]);
}

#[test]
fn compaction_is_encoded_with_revision_zero() {
    let mut store = Store::new(LogLimits::default());
    store.commit([put("a", "1")]);
    store.commit([put("a", "2")]);
    store.compact(3);
    let mut hub = hub(&store, HubOptions::default());
    let stream = hub.open_stream();
    hub.create(stream, &watch_from(KeyRange::single("a"), 1), START);
    let messages = drain(&mut hub, stream, &store);
    let expected = WatchResponse { header: header(0), canceled: true, compact_revision: 3, ..WatchResponse::default() };
    assert_eq!(messages.last().map(decode), Some(expected));
}

#[test]
fn texts_are_those_clients_compare() {
    let mut store = Store::new(LogLimits::default());
    store.commit([put("a", "1")]);
    let mut hub = hub(&store, HubOptions::default());
    let stream = hub.open_stream();
    let wire = |start: &'static [u8], end: &'static [u8]| KeyRange::from_wire(start.into(), end.into());
    let once = CreateRequest { watch_id: 5, ..CreateRequest::new(KeyRange::all()) };
    hub.create(stream, &once, START);
    for request in [once, CreateRequest::new(wire(b"b", b"a")), watch_from(KeyRange::all(), -7)] {
        hub.create(stream, &request, START);
    }
    let reasons: Vec<String> =
        drain(&mut hub, stream, &store).iter().map(decode).skip(1).map(|response| response.cancel_reason).collect();
    use api::errors::watch_cancel::{COMPACTED, DUPLICATE_ID, EMPTY_RANGE};
    assert_eq!(reasons, [DUPLICATE_ID, EMPTY_RANGE, COMPACTED]);
}
