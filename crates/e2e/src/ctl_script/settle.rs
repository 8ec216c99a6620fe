//! Replaces in a line of output what no two runs share.

use serde_json::Value;

/// `line` without ids, times and sizes; JSON comes with its fields in alphabetical order.
pub(super) fn settled(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(mut json @ (Value::Object(_) | Value::Array(_))) => {
            settle_json(&mut json);
            json.to_string()
        }
        _ => settle_text(line),
    }
}

/// Fields that differ from run to run.
const VARYING: [&str; 20] = [
    "cluster_id",
    "member_id",
    "memberID",
    "raft_term",
    "ID",
    "id",
    "lease",
    "leader",
    "version",
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "took",
    "ttl",
    "peerURLs",
    "clientURLs",
    "Endpoint",
    "endpoint",
];

fn settle_json(json: &mut Value) {
    match json {
        Value::Array(values) => values.iter_mut().for_each(settle_json),
        Value::Object(fields) => {
            // A key's version is a small number, a server's a text.
            let varies =
                |name: &str, value: &Value| VARYING.contains(&name) && !(name == "version" && value.is_number());
            for (name, value) in fields {
                if varies(name, value) {
                    *value = "<n>".into();
                } else {
                    settle_json(value);
                }
            }
        }
        _ => (),
    }
}

/// Replaces hexadecimal ids, and what follows certain words.
fn settle_text(line: &str) -> String {
    let is_id = |word: &str| (12..=16).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut settled = String::new();
    for word in line.split_inclusive(|symbol: char| !symbol.is_ascii_alphanumeric()) {
        let end = word.trim_end_matches(|symbol: char| !symbol.is_ascii_alphanumeric());
        match is_id(end) {
            true => settled.push_str(&word.replacen(end, "<id>", 1)),
            false => settled.push_str(word),
        }
    }
    let varying = [("\"ClusterID\" : ", ""), ("\"MemberID\" : ", ""), ("\"RaftTerm\" : ", ""), ("\"Lease\" : ", "")];
    for (before, after) in [("remaining(", "s)"), ("took = ", "")].into_iter().chain(varying) {
        if let Some((head, tail)) = settled.split_once(before) {
            let rest = if after.is_empty() { "" } else { tail.split_once(after).map_or("", |(_, rest)| rest) };
            settled = format!("{head}{before}<n>{after}{rest}");
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_settled() {
        assert_eq!(settle_text("lease 2be7547fbc6a5afa granted with TTL(60s)"), "lease <id> granted with TTL(60s)");
        assert_eq!(settle_text("x: remaining(59s), attached"), "x: remaining(<n>s), attached");
        assert_eq!(settle_text("committed: took = 3.4ms"), "committed: took = <n>");
    }
}
