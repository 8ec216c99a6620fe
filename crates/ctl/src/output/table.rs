//! Tables, of what is a list by its nature. The simple form has the same rows.

use std::fmt::Write as _;

use api::etcdserverpb as pb;

use super::{Answer, Health, fields};

#[derive(Debug)]
pub(super) struct Table {
    columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
}

/// `None` for answers that are no list.
pub(super) fn text(answer: &Answer<'_>) -> Option<String> {
    match answer {
        Answer::MemberList(response) => Some(member_list(response).drawn()),
        Answer::Health(endpoints) => Some(health(endpoints).drawn()),
        Answer::Status(endpoints) => Some(status(endpoints).drawn()),
        Answer::HashKv(endpoints) => Some(hash_kv(endpoints).drawn()),
        _ => None,
    }
}

pub(super) fn member_list(response: &pb::MemberListResponse) -> Table {
    let row = |member: &pb::Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    Table {
        columns: &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"],
        rows: response.members.iter().map(row).collect(),
    }
}

pub(super) fn status(endpoints: &[(String, pb::StatusResponse)]) -> Table {
    let row = |(endpoint, status): &(String, pb::StatusResponse)| {
        let id = status.header.map_or(0, |header| header.member_id);
        vec![
            endpoint.clone(),
            format!("{id:x}"),
            status.version.clone(),
            size(u64::try_from(status.db_size).unwrap_or(0)),
            (status.leader == id).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
        ]
    };
    Table {
        columns: &[
            "ENDPOINT",
            "ID",
            "VERSION",
            "DB SIZE",
            "IS LEADER",
            "IS LEARNER",
            "RAFT TERM",
            "RAFT INDEX",
            "RAFT APPLIED INDEX",
            "ERRORS",
        ],
        rows: endpoints.iter().map(row).collect(),
    }
}

pub(super) fn hash_kv(endpoints: &[(String, pb::HashKvResponse)]) -> Table {
    let rows = endpoints.iter().map(|(endpoint, response)| vec![endpoint.clone(), response.hash.to_string()]);
    Table { columns: &["ENDPOINT", "HASH"], rows: rows.collect() }
}

fn health(endpoints: &[Health]) -> Table {
    let row = |health: &Health| {
        let error = health.error.clone().unwrap_or_default();
        vec![health.endpoint.clone(), health.error.is_none().to_string(), fields::took(health.took), error]
    };
    Table { columns: &["ENDPOINT", "HEALTH", "TOOK", "ERROR"], rows: endpoints.iter().map(row).collect() }
}

/// Bytes in the largest unit of a thousand that leaves a whole number before the point: `1.6 MB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let unit = (bytes.ilog10() / 3) as usize;
    let value = (bytes as f64 / 1000f64.powi(unit as i32) * 10.0 + 0.5).floor() / 10.0;
    match value < 10.0 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

impl Table {
    /// With its frame: headings in the middle, cells to the right.
    fn drawn(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule = widths.iter().map(|width| format!("+{:-<1$}", "", width + 2)).collect::<String>() + "+\n";
        let mut drawn = rule.clone();
        for (heading, width) in self.columns.iter().zip(&widths) {
            let _ = write!(drawn, "| {heading:^width$} ");
        }
        drawn.push_str("|\n");
        drawn.push_str(&rule);
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(drawn, "| {cell:>width$} ");
            }
            drawn.push_str("|\n");
        }
        drawn + &rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_one_place_after_the_point() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (20_480, "20 kB"),
            (1_617_920, "1.6 MB"),
            (999_999, "1000 kB"),
            (2_147_483_648, "2.1 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let table = hash_kv(&[("a:1".into(), pb::HashKvResponse { hash: 1_234_567, ..Default::default() })]);
        let drawn = "+----------+---------+\n\
                     | ENDPOINT |  HASH   |\n\
                     +----------+---------+\n\
                     |      a:1 | 1234567 |\n\
                     +----------+---------+\n";
        assert_eq!(table.drawn(), drawn);
    }
}
