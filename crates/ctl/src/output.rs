//! What a command prints, in the form the user asked for.
//!
//! A form that does not know an answer is refused only once the answer is there, as etcdctl does.

mod fields;
mod json;
mod simple;
mod table;

pub(crate) use simple::member_environment;

use std::time::Duration;

use api::etcdserverpb as pb;
use prost::Message;

use crate::failure::{Exit, Failure};
use crate::standard;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    pub(crate) fn read(text: &str) -> Option<Format> {
        let formats = [Format::Simple, Format::Fields, Format::Json, Format::Protobuf, Format::Table];
        formats.into_iter().find(|format| format.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Table => "table",
        }
    }
}

/// What the cluster said to a command.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Put(&'a pb::PutResponse),
    Get(&'a pb::RangeResponse),
    Del(&'a pb::DeleteRangeResponse),
    Txn(&'a pb::TxnResponse),
    Watch(&'a pb::WatchResponse),
    LeaseGrant(&'a pb::LeaseGrantResponse),
    LeaseRevoke(i64, &'a pb::LeaseRevokeResponse),
    LeaseKeepAlive(&'a pb::LeaseKeepAliveResponse),
    /// With or without its keys.
    LeaseTimeToLive(&'a pb::LeaseTimeToLiveResponse, bool),
    Leases(&'a pb::LeaseLeasesResponse),
    MemberAdd(&'a pb::MemberAddResponse),
    MemberRemove(u64, &'a pb::MemberRemoveResponse),
    MemberUpdate(u64, &'a pb::MemberUpdateResponse),
    MemberPromote(u64, &'a pb::MemberPromoteResponse),
    MemberList(&'a pb::MemberListResponse),
    Health(&'a [Health]),
    Status(&'a [(String, pb::StatusResponse)]),
    HashKv(&'a [(String, pb::HashKvResponse)]),
    Alarm(&'a pb::AlarmResponse),
    MoveLeader {
        from: u64,
        to: u64,
        response: &'a pb::MoveLeaderResponse,
    },
}

/// How one endpoint is.
#[derive(Debug)]
pub(crate) struct Health {
    pub endpoint: String,
    pub took: Duration,
    /// Why it is not healthy.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub format: Format,
    hex: bool,
    values_only: bool,
}

impl Printer {
    pub(crate) fn new(format: Format, hex: bool) -> Printer {
        Printer { format, hex, values_only: false }
    }

    pub(crate) fn values_only(self) -> Printer {
        Printer { values_only: true, ..self }
    }

    /// # Errors
    /// If the form does not know the answer.
    pub(crate) fn print(&self, answer: &Answer<'_>) -> Result<(), Failure> {
        let text = match self.format {
            Format::Simple => Some(simple::text(self, answer)),
            Format::Fields => fields::text(answer).map(String::into_bytes),
            Format::Json => Some(json::text(answer, self.hex).into_bytes()),
            Format::Table => table::text(answer).map(String::into_bytes),
            Format::Protobuf => protobuf(answer),
        };
        match text {
            Some(text) => standard::print(&text),
            None => {
                let text = format!("{} not supported as output format", self.format.name());
                Err(Failure::new(Exit::BadFeature, text))
            }
        }
    }
}

/// The message as it came, for what is one message.
fn protobuf(answer: &Answer<'_>) -> Option<Vec<u8>> {
    Some(match answer {
        Answer::Put(response) => response.encode_to_vec(),
        Answer::Get(response) => response.encode_to_vec(),
        Answer::Del(response) => response.encode_to_vec(),
        Answer::Txn(response) => response.encode_to_vec(),
        Answer::Watch(response) => response.encode_to_vec(),
        Answer::LeaseGrant(response) => response.encode_to_vec(),
        Answer::LeaseRevoke(_, response) => response.encode_to_vec(),
        Answer::LeaseKeepAlive(response) => response.encode_to_vec(),
        Answer::LeaseTimeToLive(response, _) => response.encode_to_vec(),
        Answer::Leases(response) => response.encode_to_vec(),
        Answer::MemberAdd(response) => response.encode_to_vec(),
        Answer::MemberRemove(_, response) => response.encode_to_vec(),
        Answer::MemberUpdate(_, response) => response.encode_to_vec(),
        Answer::MemberPromote(_, response) => response.encode_to_vec(),
        Answer::MemberList(response) => response.encode_to_vec(),
        Answer::Alarm(response) => response.encode_to_vec(),
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => return None,
    })
}
