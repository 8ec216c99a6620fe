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

impl Alarm {
    /// As etcd calls it.
    pub fn name(self) -> &'static str {
        match self {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
        }
    }
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

    /// Whether it is known of this member that its data differs.
    pub fn is_corrupt(&self, member: MemberId) -> bool {
        self.0.contains(&(member, Alarm::Corrupt))
    }

    /// Those that are raised here and not in `other`.
    pub fn without<'a>(&'a self, other: &'a Alarms) -> impl Iterator<Item = (MemberId, Alarm)> + 'a {
        self.0.difference(&other.0).copied()
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
            let alarm = known(row.alarm).ok_or_else(|| damaged(format!("kind {}", row.alarm)))?;
            alarms.0.insert((MemberId(row.member_id), alarm));
        }
        Ok(alarms)
    }

    /// Carries out a request; returns the response without its header. Raising what is raised and clearing what is
    /// not are no errors, and of an unknown kind none is raised. Listing passes over the member id, as in etcd.
    pub(crate) fn apply(&mut self, request: &AlarmRequest, staged: &mut Staged) -> Result<BytesMut, ApplyError> {
        let member = MemberId(request.member_id);
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                let wanted = |alarm| request.alarm == AlarmType::None as i32 || request.alarm == kind(alarm) as i32;
                Ok(response(self.iter().filter(|&(_, alarm)| wanted(alarm))))
            }
            Ok(AlarmAction::Activate) => {
                // etcd lets "no alarm" pass and does nothing.
                if request.alarm == AlarmType::None as i32 {
                    return Ok(BytesMut::new());
                }
                let alarm = known(request.alarm).ok_or(ApplyError::Unsupported("alarm type"))?;
                if self.0.insert((member, alarm)) {
                    staged.values.push((Table::Alarm, row(member, alarm).encode_to_vec(), Some(Vec::new())));
                }
                Ok(response([(member, alarm)].into_iter()))
            }
            Ok(AlarmAction::Deactivate) => {
                let Some(alarm) = known(request.alarm).filter(|&alarm| self.0.remove(&(member, alarm))) else {
                    return Ok(BytesMut::new());
                };
                staged.values.push((Table::Alarm, row(member, alarm).encode_to_vec(), None));
                Ok(response([(member, alarm)].into_iter()))
            }
            Err(_) => Err(ApplyError::Unsupported("alarm action")),
        }
    }
}

/// The kind with this number.
fn known(number: i32) -> Option<Alarm> {
    match AlarmType::try_from(number) {
        Ok(AlarmType::Nospace) => Some(Alarm::NoSpace),
        Ok(AlarmType::Corrupt) => Some(Alarm::Corrupt),
        Ok(AlarmType::None) | Err(_) => None,
    }
}

fn kind(alarm: Alarm) -> AlarmType {
    match alarm {
        Alarm::NoSpace => AlarmType::Nospace,
        Alarm::Corrupt => AlarmType::Corrupt,
    }
}

fn row(member: MemberId, alarm: Alarm) -> AlarmMember {
    AlarmMember { member_id: member.0, alarm: kind(alarm).into() }
}

fn response(alarms: impl Iterator<Item = (MemberId, Alarm)>) -> BytesMut {
    let alarms = alarms.map(|(member, alarm)| row(member, alarm)).collect();
    let mut body = BytesMut::new();
    AlarmResponse { header: None, alarms }.encode(&mut body).expect("a BytesMut grows as needed");
    body
}
