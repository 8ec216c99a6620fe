//! One `"Name" : value` a line.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use api::etcdserverpb as pb;
use api::etcdserverpb::response_op::Response;
use api::mvccpb::KeyValue;
use types::go_quote;

use super::Answer;

/// `None` for answers that have no such form.
pub(super) fn text(answer: &Answer<'_>) -> Option<String> {
    let mut out = Lines::default();
    match answer {
        Answer::Put(response) => out.put(response),
        Answer::Get(response) => out.get(response),
        Answer::Del(response) => out.del(response),
        Answer::Txn(response) => out.txn(response),
        Answer::Watch(response) => out.watch(response),
        Answer::LeaseGrant(r) => out.header(r.header.as_ref()).line("ID", r.id).line("TTL", r.ttl).end(),
        Answer::LeaseRevoke(_, r) => out.header(r.header.as_ref()).end(),
        Answer::LeaseKeepAlive(r) => out.header(r.header.as_ref()).line("ID", r.id).line("TTL", r.ttl).end(),
        Answer::LeaseTimeToLive(r, _) => {
            out.header(r.header.as_ref()).line("ID", r.id).line("TTL", r.ttl).line("GrantedTTL", r.granted_ttl);
            r.keys.iter().for_each(|key| out.line("Key", go_quote(key)).end());
        }
        Answer::Leases(r) => {
            out.header(r.header.as_ref());
            r.leases.iter().for_each(|lease| out.line("ID", lease.id).end());
        }
        Answer::MemberList(response) => out.member_list(response),
        Answer::Health(endpoints) => {
            for health in *endpoints {
                out.line("Endpoint", go_quote(health.endpoint.as_bytes())).line("Health", health.error.is_none());
                out.line("Took", took(health.took)).line("Error", health.error.as_deref().unwrap_or_default()).blank();
            }
        }
        Answer::Status(endpoints) => endpoints.iter().for_each(|(endpoint, status)| out.status(endpoint, status)),
        Answer::HashKv(endpoints) => {
            for (endpoint, r) in *endpoints {
                out.header(r.header.as_ref())
                    .line("Endpoint", go_quote(endpoint.as_bytes()))
                    .line("Hash", r.hash)
                    .blank();
            }
        }
        Answer::Alarm(r) => {
            out.header(r.header.as_ref());
            for alarm in &r.alarms {
                out.line("MemberID", alarm.member_id).line("AlarmType", alarm.alarm().as_str_name()).blank();
            }
        }
        Answer::MemberAdd(_)
        | Answer::MemberRemove(..)
        | Answer::MemberUpdate(..)
        | Answer::MemberPromote(..)
        | Answer::MoveLeader { .. } => return None,
    }
    Some(out.text)
}

/// A time as Go prints it: `1.5ms`.
pub(super) fn took(took: Duration) -> String {
    config::go::format_duration(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX))
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, name: &str, value: impl Display) -> &mut Lines {
        let _ = writeln!(self.text, "\"{name}\" : {value}");
        self
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn end(&mut self) {}

    fn header(&mut self, header: Option<&pb::ResponseHeader>) -> &mut Lines {
        let header = header.copied().unwrap_or_default();
        self.line("ClusterID", header.cluster_id).line("MemberID", header.member_id);
        self.line("Revision", header.revision).line("RaftTerm", header.raft_term)
    }

    fn pair(&mut self, prefix: &str, pair: &KeyValue) {
        let mut line = |name: &str, value: &dyn Display| {
            let _ = writeln!(self.text, "\"{prefix}{name}\" : {value}");
        };
        line("Key", &go_quote(&pair.key));
        line("CreateRevision", &pair.create_revision);
        line("ModRevision", &pair.mod_revision);
        line("Version", &pair.version);
        line("Value", &go_quote(&pair.value));
        line("Lease", &pair.lease);
    }

    fn put(&mut self, response: &pb::PutResponse) {
        self.header(response.header.as_ref());
        response.prev_kv.iter().for_each(|pair| self.pair("Prev", pair));
    }

    fn get(&mut self, response: &pb::RangeResponse) {
        self.header(response.header.as_ref());
        response.kvs.iter().for_each(|pair| self.pair("", pair));
        self.line("More", response.more).line("Count", response.count);
    }

    fn del(&mut self, response: &pb::DeleteRangeResponse) {
        self.header(response.header.as_ref()).line("Deleted", response.deleted);
        response.prev_kvs.iter().for_each(|pair| self.pair("Prev", pair));
    }

    fn txn(&mut self, response: &pb::TxnResponse) {
        self.header(response.header.as_ref()).line("Succeeded", response.succeeded);
        for done in &response.responses {
            match &done.response {
                Some(Response::ResponseRange(range)) => self.get(range),
                Some(Response::ResponsePut(put)) => self.put(put),
                Some(Response::ResponseDeleteRange(del)) => self.del(del),
                Some(Response::ResponseTxn(txn)) => self.txn(txn),
                None => (),
            }
        }
    }

    fn watch(&mut self, response: &pb::WatchResponse) {
        self.header(response.header.as_ref());
        for event in &response.events {
            self.line("Type", event.r#type().as_str_name());
            event.prev_kv.iter().for_each(|pair| self.pair("Prev", pair));
            event.kv.iter().for_each(|pair| self.pair("", pair));
        }
    }

    fn member_list(&mut self, response: &pb::MemberListResponse) {
        self.header(response.header.as_ref());
        for member in &response.members {
            self.line("ID", member.id).line("Name", go_quote(member.name.as_bytes()));
            member.peer_ur_ls.iter().for_each(|url| self.line("PeerURL", go_quote(url.as_bytes())).end());
            member.client_ur_ls.iter().for_each(|url| self.line("ClientURL", go_quote(url.as_bytes())).end());
            self.line("IsLearner", member.is_learner).blank();
        }
    }

    fn status(&mut self, endpoint: &str, status: &pb::StatusResponse) {
        self.header(status.header.as_ref()).line("Version", go_quote(status.version.as_bytes()));
        self.line("DBSize", status.db_size).line("Leader", status.leader).line("IsLearner", status.is_learner);
        self.line("RaftIndex", status.raft_index).line("RaftTerm", status.raft_term);
        self.line("RaftAppliedIndex", status.raft_applied_index);
        self.line("Errors", format_args!("[{}]", status.errors.join(" ")));
        self.line("Endpoint", go_quote(endpoint.as_bytes())).blank();
    }
}
