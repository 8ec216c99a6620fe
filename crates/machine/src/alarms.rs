//! Alarms: what members have found wrong with themselves, and what is refused meanwhile.

use std::collections::BTreeSet;

use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};
use backend::{Staged, Table};
use bytes::BytesMut;
use membership::rows::DamagedRow;
use prost::Message;
use types::MemberId;

use crate::error::ApplyError;

/// Kinds of alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The member's quota is used up: what adds data is refused on every member.
    NoSpace,
    /// The member's data differs from the others': whatever goes through the log is refused.
    Corrupt,
}

/// The alarms that are raised, by member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms(BTreeSet<(MemberId, Alarm)>);

impl Alarms {
    /// Every alarm, in order of members.
    pub fn iter(&self) -> impl Iterator<Item = (MemberId, Alarm)> {
        self.0.iter().copied()
    }

    /// Whether any member has raised this alarm.
    pub fn has(&self, alarm: Alarm) -> bool {
        self.0.iter().any(|&(_, raised)| raised == alarm)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the stored alarms.
    pub(crate) fn restore(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Alarms, DamagedRow> {
        let damaged = |what: String| DamagedRow { row: "alarm", what };
        let mut alarms = Alarms::default();
        for (key, _) in rows {
            let row = AlarmMember::decode(&key[..]).map_err(|error| damaged(error.to_string()))?;
            let alarm = known(row.alarm).ok().flatten().ok_or_else(|| damaged(format!("kind {}", row.alarm)))?;
            alarms.0.insert((MemberId(row.member_id), alarm));
        }
        Ok(alarms)
    }

    /// What a request to list alarms is answered with. Its member id means nothing, as in etcd.
    pub(crate) fn list(&self, request: &AlarmRequest) -> Result<BytesMut, ApplyError> {
        let wanted = known(request.alarm)?;
        Ok(response(self.iter().filter(|(_, alarm)| wanted.is_none_or(|wanted| wanted == *alarm))))
    }

    /// Carries out a request; returns the response without its header. Raising what is raised and clearing what is
    /// not are no errors.
    pub(crate) fn apply(&mut self, request: &AlarmRequest, staged: &mut Staged) -> Result<BytesMut, ApplyError> {
        let member = MemberId(request.member_id);
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.list(request),
            Ok(AlarmAction::Activate) => {
                // etcd lets "no alarm" pass and does nothing.
                let Some(alarm) = known(request.alarm)? else { return Ok(BytesMut::new()) };
                if self.0.insert((member, alarm)) {
                    staged.values.push((Table::Alarm, row(member, alarm).encode_to_vec(), Some(Vec::new())));
                }
                Ok(response([(member, alarm)].into_iter()))
            }
            Ok(AlarmAction::Deactivate) => {
                let alarm = known(request.alarm)?;
                let Some(alarm) = alarm.filter(|&alarm| self.0.remove(&(member, alarm))) else {
                    return Ok(BytesMut::new());
                };
                staged.values.push((Table::Alarm, row(member, alarm).encode_to_vec(), None));
                Ok(response([(member, alarm)].into_iter()))
            }
            Err(_) => Err(ApplyError::Unsupported("alarm action")),
        }
    }
}

/// The kind with this number; none for 0.
fn known(number: i32) -> Result<Option<Alarm>, ApplyError> {
    match AlarmType::try_from(number) {
        Ok(AlarmType::None) => Ok(None),
        Ok(AlarmType::Nospace) => Ok(Some(Alarm::NoSpace)),
        Ok(AlarmType::Corrupt) => Ok(Some(Alarm::Corrupt)),
        Err(_) => Err(ApplyError::Unsupported("alarm type")),
    }
}

fn row(member: MemberId, alarm: Alarm) -> AlarmMember {
    let kind = match alarm {
        Alarm::NoSpace => AlarmType::Nospace,
        Alarm::Corrupt => AlarmType::Corrupt,
    };
    AlarmMember { member_id: member.0, alarm: kind.into() }
}

fn response(alarms: impl Iterator<Item = (MemberId, Alarm)>) -> BytesMut {
    let alarms = alarms.map(|(member, alarm)| row(member, alarm)).collect();
    let mut body = BytesMut::new();
    AlarmResponse { header: None, alarms }.encode(&mut body).expect("a BytesMut grows as needed");
    body
}
