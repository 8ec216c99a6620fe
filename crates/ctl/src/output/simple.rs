//! The form people read.

use std::io::Write as _;

use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::KeyValue;
use api::mvccpb::event::EventType;
use types::go_quote;

use super::{Answer, Health, Printer, table};
use crate::standard;

pub(super) fn text(printer: &Printer, answer: &Answer<'_>) -> Vec<u8> {
    let mut out = Text { printer, bytes: Vec::new() };
    match answer {
        Answer::Put(response) => out.put(response),
        Answer::Get(response) => out.pairs(&response.kvs),
        Answer::Del(response) => out.del(response),
        Answer::Txn(response) => out.txn(response),
        Answer::Watch(response) => out.watch(response),
        Answer::LeaseGrant(r) => out.line(format_args!("lease {:016x} granted with TTL({}s)", r.id, r.ttl)),
        Answer::LeaseRevoke(id, _) => out.line(format_args!("lease {id:016x} revoked")),
        Answer::LeaseKeepAlive(r) => out.line(format_args!("lease {:016x} keepalived with TTL({})", r.id, r.ttl)),
        Answer::LeaseTimeToLive(response, keys) => out.time_to_live(response, *keys),
        Answer::Leases(response) => {
            out.line(format_args!("found {} leases", response.leases.len()));
            response.leases.iter().for_each(|lease| out.line(format_args!("{:016x}", lease.id)));
        }
        Answer::MemberAdd(r) => {
            let id = r.member.as_ref().map_or(0, |member| member.id);
            out.line(format_args!("Member {id:16x} added to cluster {:16x}", cluster(r.header.as_ref())));
        }
        Answer::MemberRemove(id, r) => {
            out.line(format_args!("Member {id:16x} removed from cluster {:16x}", cluster(r.header.as_ref())));
        }
        Answer::MemberUpdate(id, r) => {
            out.line(format_args!("Member {id:16x} updated in cluster {:16x}", cluster(r.header.as_ref())));
        }
        Answer::MemberPromote(id, r) => {
            out.line(format_args!("Member {id:16x} promoted in cluster {:16x}", cluster(r.header.as_ref())));
        }
        Answer::MemberList(response) => out.rows(&table::member_list(response)),
        Answer::Status(endpoints) => out.rows(&table::status(endpoints)),
        Answer::HashKv(endpoints) => out.rows(&table::hash_kv(endpoints)),
        Answer::Health(endpoints) => endpoints.iter().for_each(|health| out.health(health)),
        Answer::Alarm(response) => response.alarms.iter().for_each(|alarm| out.alarm(alarm)),
        Answer::MoveLeader { from, to, .. } => {
            out.line(format_args!("Leadership transferred from {from:x} to {to:x}"));
        }
    }
    out.bytes
}

fn cluster(header: Option<&pb::ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

struct Text<'a> {
    printer: &'a Printer,
    bytes: Vec<u8>,
}

impl Text<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.bytes, "{line}").expect("memory can be written to");
    }

    /// Keys and values as they are, or every byte as `\x00`.
    fn raw(&mut self, bytes: &[u8]) {
        if self.printer.hex {
            for byte in bytes {
                let _ = write!(self.bytes, "\\x{byte:02x}");
            }
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        self.bytes.push(b'\n');
    }

    fn pair(&mut self, pair: &KeyValue) {
        if !self.printer.values_only {
            self.raw(&pair.key);
        }
        self.raw(&pair.value);
    }

    fn pairs<'a>(&mut self, pairs: impl IntoIterator<Item = &'a KeyValue>) {
        pairs.into_iter().for_each(|pair| self.pair(pair));
    }

    fn put(&mut self, response: &pb::PutResponse) {
        self.line(format_args!("OK"));
        self.pairs(&response.prev_kv);
    }

    fn del(&mut self, response: &pb::DeleteRangeResponse) {
        self.line(format_args!("{}", response.deleted));
        self.pairs(&response.prev_kvs);
    }

    fn txn(&mut self, response: &pb::TxnResponse) {
        self.line(format_args!("{}", if response.succeeded { "SUCCESS" } else { "FAILURE" }));
        for done in &response.responses {
            self.line(format_args!(""));
            match &done.response {
                Some(Response::ResponseRange(range)) => self.pairs(&range.kvs),
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseDeleteRange(del)) => self.del(del),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => (),
            }
        }
    }

    fn watch(&mut self, response: &pb::WatchResponse) {
        for event in &response.events {
            self.line(format_args!("{}", event.r#type().as_str_name()));
            debug_assert!(matches!(event.r#type(), EventType::Put | EventType::Delete));
            self.pairs(&event.prev_kv);
            self.pairs(&event.kv);
        }
    }

    fn time_to_live(&mut self, response: &pb::LeaseTimeToLiveResponse, keys: bool) {
        let (id, granted, left) = (response.id, response.granted_ttl, response.ttl);
        if granted == 0 && left == -1 {
            return self.line(format_args!("lease {id:016x} already expired"));
        }
        let _ = write!(self.bytes, "lease {id:016x} granted with TTL({granted}s), remaining({left}s)");
        if keys {
            self.bytes.extend_from_slice(b", attached keys([");
            self.bytes.extend_from_slice(&response.keys.join(&b' '));
            self.bytes.extend_from_slice(b"])");
        }
        self.bytes.push(b'\n');
    }

    fn rows(&mut self, table: &table::Table) {
        table.rows.iter().for_each(|row| self.line(format_args!("{}", row.join(", "))));
    }

    /// Who is not healthy is told on standard error.
    fn health(&mut self, health: &Health) {
        let endpoint = &health.endpoint;
        match &health.error {
            None => {
                let took = super::fields::took(health.took);
                self.line(format_args!("{endpoint} is healthy: successfully committed proposal: took = {took}"));
            }
            Some(error) => {
                standard::complain(&format!("{endpoint} is unhealthy: failed to commit proposal: {error}"));
            }
        }
    }

    /// As Go prints a protobuf message.
    fn alarm(&mut self, alarm: &pb::AlarmMember) {
        if alarm.member_id != 0 {
            let _ = write!(self.bytes, "memberID:{} ", alarm.member_id);
        }
        if alarm.alarm != 0 {
            let _ = write!(self.bytes, "alarm:{} ", alarm.alarm().as_str_name());
        }
        self.bytes.push(b'\n');
    }
}

/// What a new member is started with, in the form of variables.
pub(crate) fn member_environment(name: &str, peer_urls: &str, response: &pb::MemberAddResponse) -> String {
    let new = response.member.as_ref().map_or(0, |member| member.id);
    let mut cluster = Vec::new();
    for member in &response.members {
        let name = if member.id == new { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    let quoted = |text: &str| go_quote(text.as_bytes());
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quoted(name),
        quoted(&cluster.join(",")),
        quoted(peer_urls),
    )
}
