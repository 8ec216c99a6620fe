//! Reading and writing against another implementation of the JSON form, and what Go's accepts beyond it.

use std::path::Path;
use std::sync::LazyLock;

use api::schema::{METHODS, Message, Method};
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions, Value,
};

use crate::{Unreadable, Writer, Wrong, read};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/proto");
    let files = ["rpc.proto", "v3lockpb.proto", "v3electionpb.proto"];
    let files = protox::compile(files, [root]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
});

/// Every message that a method takes or gives.
fn messages() -> Vec<(&'static Message, MessageDescriptor)> {
    let served = METHODS.iter().filter(|method| !method.path.starts_with("/grpc."));
    let both = served.flat_map(|method| [method.input, method.output]);
    both.map(|message| (message, POOL.get_message_by_name(message.name).unwrap())).collect()
}

fn random_message(descriptor: &MessageDescriptor, depth: usize, rng: &mut fastrand::Rng) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let skip = matches!(field.kind(), Kind::Message(_)) && depth == 0;
        if skip || rng.bool() {
            continue;
        }
        let value = match field.cardinality() {
            Cardinality::Repeated => {
                Value::List((0..rng.usize(1..4)).map(|_| random_value(&field, depth, rng)).collect())
            }
            _ => random_value(&field, depth, rng),
        };
        message.set_field(&field, value);
    }
    message
}

fn random_value(field: &FieldDescriptor, depth: usize, rng: &mut fastrand::Rng) -> Value {
    let bytes = |rng: &mut fastrand::Rng| -> Vec<u8> { (0..rng.usize(0..9)).map(|_| rng.u8(..)).collect() };
    match field.kind() {
        Kind::Bool => Value::Bool(rng.bool()),
        Kind::Int32 => Value::I32(rng.i32(..)),
        Kind::Int64 => Value::I64(rng.i64(..) >> rng.u32(0..64)),
        Kind::Uint32 => Value::U32(rng.u32(..)),
        Kind::Uint64 => Value::U64(rng.u64(..) >> rng.u32(0..64)),
        Kind::String => Value::String((0..rng.usize(0..9)).map(|_| rng.char(..)).collect()),
        Kind::Bytes => Value::Bytes(bytes(rng).into()),
        Kind::Enum(values) => Value::EnumNumber(rng.choice(values.values()).unwrap().number()),
        Kind::Message(message) => Value::Message(random_message(&message, depth - 1, rng)),
        other => panic!("{other:?}"),
    }
}

fn write(schema: &'static Message, mut wire: &[u8]) -> Result<String, Unreadable> {
    let mut out = Vec::new();
    let has_ended = Writer::new(schema, wire.len()).push(&mut wire, &mut out, usize::MAX)?;
    assert!(has_ended && wire.is_empty(), "{wire:?}");
    Ok(String::from_utf8(out).unwrap())
}

fn theirs(message: &DynamicMessage) -> serde_json::Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

proptest! {
    #[test]
    fn any_message_is_written_and_read_as_others_do(seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = messages();
        let (schema, descriptor) = rng.choice(&all).unwrap();
        let message = random_message(descriptor, 4, &mut rng);
        let wire = message.encode_to_vec();
        let text = write(schema, &wire).unwrap();
        let expected = theirs(&message);
        prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&text).unwrap(), &expected);

        for text in [text, serde_json::to_string_pretty(&message).unwrap()] {
            let mut wire = Vec::new();
            read(schema, text.as_bytes(), usize::MAX, &mut wire).unwrap();
            prop_assert_eq!(&theirs(&DynamicMessage::decode(descriptor.clone(), &wire[..]).unwrap()), &expected);
        }
    }

    #[test]
    fn it_does_not_matter_where_a_message_is_cut(seed: u64, piece in 1..20usize, text_bytes_max in 1..50usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = messages();
        let (schema, descriptor) = rng.choice(&all).unwrap();
        let wire = random_message(descriptor, 4, &mut rng).encode_to_vec();
        let (mut writer, mut out, mut held) = (Writer::new(schema, wire.len()), Vec::new(), Vec::new());
        let mut has_ended = false;
        for piece in wire.chunks(piece) {
            held.extend_from_slice(piece);
            let mut left = &held[..];
            loop {
                let mut text = Vec::new();
                has_ended = writer.push(&mut left, &mut text, text_bytes_max).unwrap();
                let is_full = text.len() >= text_bytes_max;
                out.extend(text);
                if has_ended || !is_full {
                    break;
                }
            }
            held = left.to_vec();
        }
        prop_assert!(held.is_empty());
        prop_assert_eq!(has_ended, !wire.is_empty());
        if has_ended {
            prop_assert_eq!(String::from_utf8(out).unwrap(), write(schema, &wire).unwrap());
        }
    }

    #[test]
    fn no_more_is_kept_than_a_message_may_have(seed: u64, bytes_max in 0..200usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = messages();
        let (schema, descriptor) = rng.choice(&all).unwrap();
        let text = serde_json::to_string(&random_message(descriptor, 4, &mut rng)).unwrap();
        let (mut whole, mut bounded) = (Vec::new(), Vec::new());
        read(schema, text.as_bytes(), usize::MAX, &mut whole).unwrap();
        let outcome = read(schema, text.as_bytes(), bytes_max, &mut bounded);
        match whole.len() {
            len if len > bytes_max => prop_assert_eq!(outcome, Err(Wrong::TooLong(len))),
            _ => prop_assert_eq!((outcome, &bounded), (Ok(()), &whole)),
        }
        prop_assert!(bounded.len() <= bytes_max);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for (schema, _) in messages() {
            let _ = read(schema, &bytes, usize::MAX, &mut Vec::new());
            let _ = Writer::new(schema, bytes.len()).push(&mut &bytes[..], &mut Vec::new(), usize::MAX);
        }
    }

    #[test]
    fn no_text_panics(text in r#"[{}\[\]":,a-c\\ 0-9eukvsl]{0,40}"#) {
        for (schema, _) in messages() {
            let _ = read(schema, text.as_bytes(), usize::MAX, &mut Vec::new());
        }
    }
}

/// The message that `text` is, in the shortest text.
fn understood(path: &str, text: &str) -> Result<String, Wrong> {
    let schema = Method::find(path).unwrap().input;
    let mut wire = Vec::new();
    read(schema, text.as_bytes(), usize::MAX, &mut wire)?;
    let descriptor = POOL.get_message_by_name(schema.name).unwrap();
    Ok(theirs(&DynamicMessage::decode(descriptor, &wire[..]).unwrap()).to_string())
}

#[test]
fn what_gos_reader_takes_is_taken() {
    for (text, same) in [
        ("{}", "{}"),
        (r#"{"key":null,"limit":null,"sort_order":null,"serializable":null}"#, "{}"),
        (r#"{"key":"Zm9v"} and more"#, r#"{"key":"Zm9v"}"#),
        (r#"{"rangeEnd":"Zm9v","keys_only":true}"#, r#"{"keys_only":true,"range_end":"Zm9v"}"#),
        (r#"{"limit":5.0,"revision":"1e1"}"#, r#"{"limit":"5","revision":"10"}"#),
        (r#"{"limit":"\u0031"}"#, r#"{"limit":"1"}"#),
        (r#"{"nope":{"a":[1,{"b":null}]},"Key":"Zm9v"}"#, "{}"),
        (r#"{"sort_order":"DESCEND"}"#, r#"{"sort_order":"DESCEND"}"#),
        (r#"{"sort_order":2.0}"#, r#"{"sort_order":"DESCEND"}"#),
        (r#"{"sort_order":"FOO"}"#, "{}"),
        (r#"{"sort_order":"1"}"#, "{}"),
        (r#"{"sort_order":77}"#, r#"{"sort_order":77}"#),
        (r#"{"key":"Zm8"}"#, r#"{"key":"Zm8="}"#),
        (r#"{"key":"Zm9\n\u0076\r\n"}"#, r#"{"key":"Zm9v"}"#),
        (r#"{"key":"Zh=="}"#, r#"{"key":"Zg=="}"#),
        (r#"{"key":"-_8="}"#, r#"{"key":"+/8="}"#),
    ] {
        assert_eq!(understood("/etcdserverpb.KV/Range", text), Ok(same.to_owned()), "{text}");
    }
    for (text, same) in [
        (r#"{"filters":["NOPUT",1,"FOO"]}"#, r#"{"create_request":{"filters":["NOPUT","NODELETE"]}}"#),
        (r#"{"filters":null}"#, r#"{"create_request":{}}"#),
    ] {
        let text = format!(r#"{{"createRequest":{text}}}"#);
        assert_eq!(understood("/etcdserverpb.Watch/Watch", &text), Ok(same.to_owned()), "{text}");
    }
}

#[test]
fn unions_may_be_named() {
    let named = r#"{"compare":[{"TargetUnion":{"version":"3"},"key":"Zg==","result":"GREATER"}],
        "success":[{"Request":{"request_range":{"key":"Zg=="}}}],"failure":[{"Request":null}]}"#;
    let plain = r#"{"compare":[{"key":"Zg==","result":"GREATER","version":"3"}],"failure":[{}],"success":[{"request_range":{"key":"Zg=="}}]}"#;
    assert_eq!(understood("/etcdserverpb.KV/Txn", named), Ok(plain.to_owned()));
    let zero = r#"{"compare":[{"target":"CREATE","version":null,"create_revision":0}]}"#;
    let kept = r#"{"compare":[{"create_revision":"0","target":"CREATE"}]}"#;
    assert_eq!(understood("/etcdserverpb.KV/Txn", zero), Ok(kept.to_owned()));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, wrong) in [
        (r#"{"key":"foo!"}"#, r#"proto: (line 1:8): invalid value for bytes field key: "foo!""#),
        (r#"{"key":"Zg="}"#, r#"proto: (line 1:8): invalid value for bytes field key: "Zg=""#),
        (r#"{"key":"YQ==\n"}"#, r#"proto: (line 1:8): invalid value for bytes field key: "YQ==\n""#),
        (r#"{"key":"-_+/"}"#, r#"proto: (line 1:8): invalid value for bytes field key: "-_+/""#),
        (r#"{"key":123}"#, "proto: (line 1:8): invalid value for bytes field key: 123"),
        ("{\"key\":\"\",\n \"limit\": \"1.5\"}", r#"proto: (line 2:11): invalid value for int64 field limit: "1.5""#),
        (
            r#"{"limit":9223372036854775808}"#,
            "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808",
        ),
        (r#"{"limit":true}"#, "proto: (line 1:10): invalid value for int64 field limit: true"),
        (r#"{"limit":" 1"}"#, r#"proto: (line 1:10): invalid value for int64 field limit: " 1""#),
        (r#"{"serializable":"true"}"#, r#"proto: (line 1:17): invalid value for bool field serializable: "true""#),
        (r#"{"sort_order":99999999999}"#, "proto: (line 1:15): invalid value for enum field sortOrder: 99999999999"),
        (r#"{"key":"","key":null}"#, r#"proto: duplicate field "key""#),
        (r#"{"rangeEnd":"","range_end":""}"#, r#"proto: duplicate field "range_end""#),
        ("{\"key\":\"\u{e9}\\ud800\"}", "proto: (line 1:8): invalid value for bytes field key: \"\u{e9}\\ud800\""),
        (r#"{"key":"Zm9v",}"#, "trailing comma at line 1 column 15"),
        (r#"{"limit":01}"#, "invalid number at line 1 column 11"),
    ] {
        assert_eq!(understood("/etcdserverpb.KV/Range", text), Err(Wrong::Text(wrong.into())), "{text}");
    }
    for (text, wrong) in [
        (
            r#"{"success":[{"request_range":{},"request_put":{}}]}"#,
            r#"proto: error parsing "request_put", oneof etcdserverpb.RequestOp.Request is already set"#,
        ),
        (
            r#"{"compare":[null]}"#,
            "invalid type: null, expected an object, for etcdserverpb.Compare at line 1 column 16",
        ),
        (r#"{"compare":{}}"#, "invalid type: map, expected an array, for compare at line 1 column 11"),
    ] {
        assert_eq!(understood("/etcdserverpb.KV/Txn", text), Err(Wrong::Text(wrong.into())), "{text}");
    }
    let not_unicode = read(METHODS[0].input, b"{\"a\":\"\xff\"}", usize::MAX, &mut Vec::new());
    assert_eq!(not_unicode, Err(Wrong::Text("proto: invalid UTF-8 in string".into())));
}

#[test]
fn nesting_costs_no_stack() {
    let deep =
        |levels: usize| format!("{}{}{}", r#"{"success":[{"request_txn":"#.repeat(levels), "{}", "}]}".repeat(levels));
    assert!(understood("/etcdserverpb.KV/Txn", &deep(40)).is_ok());
    assert_eq!(understood("/etcdserverpb.KV/Txn", &deep(100)), Err(Wrong::TooDeep));
    let ignored = format!(r#"{{"nope":{}{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(understood("/etcdserverpb.KV/Txn", &ignored), Ok("{}".into()));
}

#[test]
fn fields_out_of_order_are_no_message() {
    let range = Method::find("/etcdserverpb.KV/Range").unwrap().output;
    assert_eq!(write(range, b"\x20\x01\x18\x01"), Err(Unreadable));
    assert_eq!(write(range, b"\x12\x00\x18\x01\x12\x00"), Err(Unreadable));
    assert_eq!(write(range, b"\x12\x00\x12\x00\x18\x01"), Ok(r#"{"kvs":[{},{}],"more":true}"#.into()));
}

/// One key of a range in a transaction's answer, whose value is long: messages in messages in messages.
#[test]
fn a_long_field_within_a_message_is_written_as_it_comes() {
    const VALUE_LEN: usize = 1_000_000;
    let txn = Method::find("/etcdserverpb.KV/Txn").unwrap().output;
    let delimited = |number: u8, content: &[u8]| {
        let mut field = vec![number << 3 | 2];
        types::put_varint(&mut field, content.len() as u64);
        [&field, content].concat()
    };
    let kv = delimited(5, &vec![7; VALUE_LEN]);
    // `responses`, `response_range`, `kvs`.
    let wire = delimited(3, &delimited(1, &delimited(2, &kv)));
    let (mut writer, mut held, mut longest) = (Writer::new(txn, wire.len()), Vec::new(), 0);
    let mut whole = String::new();
    for piece in wire.chunks(10_000) {
        held.extend_from_slice(piece);
        let mut left = &held[..];
        let mut text = Vec::new();
        writer.push(&mut left, &mut text, usize::MAX).unwrap();
        assert!(left.len() < 3, "{} bytes wait", left.len());
        longest = longest.max(text.len());
        whole += std::str::from_utf8(&text).unwrap();
        held = left.to_vec();
    }
    assert!(longest < 14_000, "{longest} bytes of text at once");
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    let value = whole["responses"][0]["response_range"]["kvs"][0]["value"].as_str().unwrap();
    assert_eq!(value.len(), VALUE_LEN.div_ceil(3) * 4);
}

/// What makes most of little text: enums that are no more than a sign and a digit.
#[test]
fn text_that_makes_much_of_a_message_is_refused_by_its_length() {
    let watch = Method::find("/etcdserverpb.Watch/Watch").unwrap().input;
    let text = format!(r#"{{"create_request":{{"filters":[{}-1]}}}}"#, "-1,".repeat(99_999));
    let mut wire = Vec::new();
    read(watch, text.as_bytes(), usize::MAX, &mut wire).unwrap();
    assert!(wire.len() > 1_100_000 && text.len() < 310_000, "{} bytes of {}", wire.len(), text.len());
    let mut kept = Vec::new();
    assert_eq!(read(watch, text.as_bytes(), 500_000, &mut kept), Err(Wrong::TooLong(wire.len())));
    assert!(kept.capacity() <= 1_000_000, "{} bytes are kept", kept.capacity());
}
