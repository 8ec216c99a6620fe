//! JSON as Go writes etcd's structures: fields in their order, zero values left out where etcd leaves them out.

use std::fmt::Write as _;

use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::{Event, KeyValue};

use super::Answer;
use super::fields::took;

pub(super) fn text(answer: &Answer<'_>, hex: bool) -> String {
    let mut text = match answer {
        Answer::Put(r) => put(r),
        Answer::Get(r) => range(r),
        Answer::Del(r) => delete(r),
        Answer::Txn(r) => txn(r),
        Answer::Watch(r) => watch(r),
        Answer::LeaseGrant(r) => {
            let object = header_fields(r.header.as_ref()).always("ID", r.id).always("TTL", r.ttl);
            object.always("Error", string(&r.error)).end()
        }
        Answer::LeaseRevoke(_, r) => Object::new().header(r.header.as_ref()).end(),
        Answer::LeaseKeepAlive(r) => header_fields(r.header.as_ref()).always("ID", r.id).always("TTL", r.ttl).end(),
        Answer::LeaseTimeToLive(r, _) => {
            let object = header_fields(r.header.as_ref()).always("id", r.id).always("ttl", r.ttl);
            let keys = if r.keys.is_empty() { "null".to_owned() } else { list(&r.keys, |key| base64(key)) };
            object.always("granted-ttl", r.granted_ttl).always("keys", keys).end()
        }
        Answer::Leases(r) => {
            let leases = list(&r.leases, |lease| Object::new().always("id", lease.id).end());
            header_fields(r.header.as_ref()).always("leases", leases).end()
        }
        Answer::MemberAdd(r) => {
            let object = Object::new().member_header(r.header.as_ref(), hex);
            let object = object.object("member", r.member.as_ref().map(|added| member(added, hex)));
            object.objects("members", &r.members, |other| member(other, hex)).end()
        }
        Answer::MemberRemove(_, r) => members(r.header.as_ref(), &r.members, hex),
        Answer::MemberUpdate(_, r) => members(r.header.as_ref(), &r.members, hex),
        Answer::MemberPromote(_, r) => members(r.header.as_ref(), &r.members, hex),
        Answer::MemberList(r) => members(r.header.as_ref(), &r.members, hex),
        Answer::Health(endpoints) => list(endpoints, |health| {
            let object = Object::new().always("endpoint", string(&health.endpoint));
            let object = object.always("health", health.error.is_none()).always("took", string(&took(health.took)));
            object.text("error", health.error.as_deref().unwrap_or_default()).end()
        }),
        Answer::Status(endpoints) => list(endpoints, |(endpoint, r)| {
            Object::new().always("Endpoint", string(endpoint)).always("Status", status(r)).end()
        }),
        Answer::HashKv(endpoints) => list(endpoints, |(endpoint, r)| {
            let hash = Object::new().header(r.header.as_ref()).number("hash", r.hash.into());
            let hash = hash.number("compact_revision", r.compact_revision.into()).end();
            Object::new().always("Endpoint", string(endpoint)).always("HashKV", hash).end()
        }),
        Answer::Alarm(r) => Object::new().header(r.header.as_ref()).objects("alarms", &r.alarms, alarm).end(),
        Answer::MoveLeader { response, .. } => Object::new().header(response.header.as_ref()).end(),
    };
    text.push('\n');
    text
}

fn put(r: &pb::PutResponse) -> String {
    Object::new().header(r.header.as_ref()).object("prev_kv", r.prev_kv.as_ref().map(pair)).end()
}

fn range(r: &pb::RangeResponse) -> String {
    let object = Object::new().header(r.header.as_ref()).objects("kvs", &r.kvs, pair);
    object.flag("more", r.more).number("count", r.count.into()).end()
}

fn delete(r: &pb::DeleteRangeResponse) -> String {
    let object = Object::new().header(r.header.as_ref()).number("deleted", r.deleted.into());
    object.objects("prev_kvs", &r.prev_kvs, pair).end()
}

fn txn(r: &pb::TxnResponse) -> String {
    let done = |done: &pb::ResponseOp| {
        let response = done.response.as_ref().map(|response| match response {
            Response::ResponseRange(r) => Object::new().always("response_range", range(r)).end(),
            Response::ResponsePut(r) => Object::new().always("response_put", put(r)).end(),
            Response::ResponseDeleteRange(r) => Object::new().always("response_delete_range", delete(r)).end(),
            Response::ResponseTxn(r) => Object::new().always("response_txn", txn(r)).end(),
        });
        Object::new().always("Response", response.unwrap_or_else(|| "null".to_owned())).end()
    };
    let object = Object::new().header(r.header.as_ref()).flag("succeeded", r.succeeded);
    object.objects("responses", &r.responses, done).end()
}

fn watch(r: &pb::WatchResponse) -> String {
    let event = |event: &Event| {
        let object = Object::new().number("type", event.r#type.into());
        let object = object.object("kv", event.kv.as_ref().map(pair));
        object.object("prev_kv", event.prev_kv.as_ref().map(pair)).end()
    };
    let object = Object::new().always("Header", header_fields(r.header.as_ref()).end());
    let object = object.always("Events", list(&r.events, event)).always("CompactRevision", r.compact_revision);
    object.always("Canceled", r.canceled).always("Created", r.created).end()
}

fn status(r: &pb::StatusResponse) -> String {
    let object = Object::new().header(r.header.as_ref()).text("version", &r.version);
    let object = object.number("dbSize", r.db_size.into()).number("leader", r.leader.into());
    let object = object.number("raftIndex", r.raft_index.into()).number("raftTerm", r.raft_term.into());
    let object = object.number("raftAppliedIndex", r.raft_applied_index.into());
    let object = object.objects("errors", &r.errors, |error| string(error));
    object.number("dbSizeInUse", r.db_size_in_use.into()).flag("isLearner", r.is_learner).end()
}

fn members(header: Option<&pb::ResponseHeader>, members: &[pb::Member], hex: bool) -> String {
    let object = Object::new().member_header(header, hex);
    object.objects("members", members, |other| member(other, hex)).end()
}

fn member(member: &pb::Member, hex: bool) -> String {
    let object = match hex {
        true => Object::new().always("ID", string(&format!("{:x}", member.id))),
        false => Object::new().number("ID", member.id.into()),
    };
    let object = object.text("name", &member.name).objects("peerURLs", &member.peer_ur_ls, |url| string(url));
    let object = object.objects("clientURLs", &member.client_ur_ls, |url| string(url));
    object.flag("isLearner", member.is_learner).end()
}

fn alarm(alarm: &pb::AlarmMember) -> String {
    Object::new().number("memberID", alarm.member_id.into()).number("alarm", alarm.alarm.into()).end()
}

fn pair(pair: &KeyValue) -> String {
    let object = Object::new().bytes("key", &pair.key).number("create_revision", pair.create_revision.into());
    let object = object.number("mod_revision", pair.mod_revision.into()).number("version", pair.version.into());
    object.bytes("value", &pair.value).number("lease", pair.lease.into()).end()
}

/// An object whose first fields are the header's.
fn header_fields(header: Option<&pb::ResponseHeader>) -> Object {
    let header = header.copied().unwrap_or_default();
    let object = Object::new().number("cluster_id", header.cluster_id.into());
    let object = object.number("member_id", header.member_id.into()).number("revision", header.revision.into());
    object.number("raft_term", header.raft_term.into())
}

/// An object under construction.
struct Object(String);

impl Object {
    fn new() -> Object {
        Object(String::from("{"))
    }

    fn always(mut self, name: &str, value: impl std::fmt::Display) -> Object {
        let comma = if self.0.len() > 1 { "," } else { "" };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
        self
    }

    fn number(self, name: &str, value: i128) -> Object {
        if value == 0 { self } else { self.always(name, value) }
    }

    fn flag(self, name: &str, value: bool) -> Object {
        if value { self.always(name, true) } else { self }
    }

    fn text(self, name: &str, value: &str) -> Object {
        if value.is_empty() { self } else { self.always(name, string(value)) }
    }

    fn bytes(self, name: &str, value: &[u8]) -> Object {
        if value.is_empty() { self } else { self.always(name, base64(value)) }
    }

    fn object(self, name: &str, value: Option<String>) -> Object {
        match value {
            Some(value) => self.always(name, value),
            None => self,
        }
    }

    fn objects<T>(self, name: &str, values: &[T], one: impl Fn(&T) -> String) -> Object {
        if values.is_empty() { self } else { self.always(name, list(values, one)) }
    }

    fn header(self, header: Option<&pb::ResponseHeader>) -> Object {
        self.object("header", header.map(|header| header_fields(Some(header)).end()))
    }

    /// With `--hex`, answers about members have ids as text.
    fn member_header(self, header: Option<&pb::ResponseHeader>, hex: bool) -> Object {
        let Some(header) = header.filter(|_| hex) else { return self.header(header) };
        let fields = Object::new().always("cluster_id", string(&format!("{:x}", header.cluster_id)));
        let fields = fields.always("member_id", string(&format!("{:x}", header.member_id)));
        let fields = fields.number("revision", header.revision.into()).number("raft_term", header.raft_term.into());
        self.always("header", fields.end())
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn list<T>(values: &[T], one: impl Fn(&T) -> String) -> String {
    let values: Vec<String> = values.iter().map(one).collect();
    format!("[{}]", values.join(","))
}

/// A text with Go's escapes, which keep it harmless inside HTML.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for symbol in text.chars() {
        match symbol {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(quoted, "\\u{:04x}", symbol as u32);
            }
            _ => quoted.push(symbol),
        }
    }
    quoted.push('"');
    quoted
}

/// Bytes as a text in base64, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4 + 2);
    text.push('"');
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { digit as char } else { '=' });
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, text) in
            [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj"), (b"\xff\xfe\xfd\xfc", "//79/A==")]
        {
            assert_eq!(base64(bytes), format!("\"{text}\""));
        }
    }

    #[test]
    fn texts_are_harmless_in_html() {
        assert_eq!(string("a<b>&\"\u{1}\n"), r#""a\u003cb\u003e\u0026\"\u0001\n""#);
    }

    #[test]
    fn zero_values_are_left_out() {
        let empty = pb::RangeResponse { header: Some(pb::ResponseHeader::default()), ..Default::default() };
        assert_eq!(range(&empty), r#"{"header":{}}"#);
    }
}
