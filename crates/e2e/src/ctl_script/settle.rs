//! Replaces in output what no two runs share, and makes the same what the tools print differently by intention: the
//! words of the help, the frames of tables, and what the libraries below etcdctl log as JSON. `docs/differences.md`
//! lists it.

use serde_json::Value;

/// The lines of standard error that both tools print.
///
/// etcdctl's client library logs as JSON; what it says about variables quoratectl says in a line, and of its attempts
/// to connect quoratectl only tells the last. What is wrong with a command line etcdctl says twice.
pub(super) fn errors(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = match serde_json::from_str::<Value>(line) {
            Ok(logged) => {
                let field = |name: &str| logged.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let variable = field("environment-variable");
                match (&*field("level"), variable.split('=').next().unwrap_or_default()) {
                    (_, "") => continue,
                    ("fatal", variable) => format!("Error: conflicting environment variable {variable}"),
                    (_, variable) => format!("Warning: unrecognized environment variable {variable}"),
                }
            }
            Err(_) if line.starts_with("In etcd v3.6, ") || line.starts_with("Warning: deletes all keys") => {
                "<warning of a range>".to_owned()
            }
            Err(_) => line.split(" is shadowed by").next().unwrap_or_default().replace("quoratectl", "etcdctl"),
        };
        if !line.is_empty() && !line.starts_with("Unavailable: ") && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Help is each tool's own: its words are left out. So is the line that etcdctl does not have.
pub(super) fn without_help(output: &str) -> String {
    match output.starts_with("NAME:\n") {
        true => "<help>\n".to_owned(),
        false => output.split_inclusive('\n').filter(|line| !line.starts_with("Quorate version: ")).collect(),
    }
}

/// Members come in the order of their ids, which are random: rows of settled text that begin with an id are sorted.
pub(super) fn in_order(text: &str) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    for rows in lines.chunk_by_mut(|a, b| is_member(a) == is_member(b)) {
        if is_member(rows[0]) {
            rows.sort_unstable();
        }
    }
    lines.concat()
}

fn is_member(line: &str) -> bool {
    line.starts_with("<id>, ") || line.starts_with("| <id> |")
}

/// `line` without ids, times and sizes; JSON comes with its fields in alphabetical order.
pub(super) fn settled(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(mut json @ (Value::Object(_) | Value::Array(_))) => {
            settle_json(&mut json);
            json.to_string()
        }
        _ if line.starts_with(['+', '|', '┌', '├', '└', '│']) => settle_table(line),
        // The row of a table without its frame.
        _ if line.contains("<endpoint>, ") && line.matches(", ").count() == 9 => {
            line.split(", ").map(settle_cell).collect::<Vec<_>>().join(", ")
        }
        _ => match line.strip_prefix("ETCD_INITIAL_CLUSTER=") {
            Some(members) => {
                let mut members: Vec<&str> = members.trim_matches('"').split(',').collect();
                members.sort_unstable();
                format!("ETCD_INITIAL_CLUSTER=\"{}\"", members.join(","))
            }
            None => settle_text(line),
        },
    }
}

/// Frames of one kind, and no more room than a cell needs: it hangs from what no two runs share.
fn settle_table(line: &str) -> String {
    let line: String = line
        .chars()
        .map(|symbol| match symbol {
            '─' => '-',
            '│' => '|',
            '┌' | '┬' | '┐' | '├' | '┼' | '┤' | '└' | '┴' | '┘' => '+',
            other => other,
        })
        .collect();
    if line.starts_with('+') {
        return "+".repeat(line.matches('+').count());
    }
    let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| settle_cell(cell.trim())).collect();
    format!("| {} |", cells.join(" | "))
}

/// Numbers of raft and times are no two runs' the same. An id may happen to be all digits.
fn settle_cell(cell: &str) -> String {
    if is_id(cell) {
        return settle_text(cell);
    }
    let number = cell.trim_end_matches(['B', 'k', 'M', 's', 'm', 'µ', ' ']);
    match !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        true => "<n>".to_owned(),
        false => settle_text(cell),
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
            if let Some(Value::Array(members)) = fields.get_mut("members") {
                members.sort_by_key(|member| member.get("name").map(Value::to_string));
            }
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

fn is_id(word: &str) -> bool {
    (12..=16).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Replaces hexadecimal ids, and what follows certain words.
fn settle_text(line: &str) -> String {
    let mut settled = String::new();
    for word in line.split_inclusive(|symbol: char| !symbol.is_ascii_alphanumeric()) {
        let end = word.trim_end_matches(|symbol: char| !symbol.is_ascii_alphanumeric());
        match is_id(end) {
            true => settled.push_str(&word.replacen(end, "<id>", 1)),
            false => settled.push_str(word),
        }
    }
    // Some ids are shown in a column of sixteen digits.
    let mut settled = settled.replace("  <id>", " <id>");
    let fields = [
        "ClusterID",
        "MemberID",
        "RaftTerm",
        "Lease",
        "PrevLease",
        "ID",
        "TTL",
        "Took",
        "DBSize",
        "Leader",
        "RaftIndex",
        "RaftAppliedIndex",
    ];
    let fields: Vec<String> = fields.iter().map(|field| format!("\"{field}\" : ")).collect();
    let varying = fields.iter().map(|field| (&field[..], ""));
    for (before, after) in [("remaining(", "s)"), ("took = ", "")].into_iter().chain(varying) {
        // An id of zero is none.
        if let Some((head, tail)) = settled.split_once(before).filter(|(_, tail)| *tail != "0") {
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
        assert_eq!(settle_text("\"Lease\" : 7"), "\"Lease\" : <n>");
        assert_eq!(settle_text("\"Lease\" : 0"), "\"Lease\" : 0");
    }

    #[test]
    fn tables_look_the_same_in_either_frame() {
        for (one, other, settled) in [
            ("┌────┬───┐", "+----+---+", "+++"),
            ("│ ID │ X │", "|  ID   | X  |", "| ID | X |"),
            ("│ 1234567890123456 │", "| a786f6e2b2fe0bd0 |", "| <id> |"),
            ("│ a786f6e2b2fe0bd0 │ 20 kB │  │", "| a786f6e2b2fe0bd0 | 1.6 MB |  |", "| <id> | <n> |  |"),
        ] {
            assert_eq!(super::settled(one), settled);
            assert_eq!(super::settled(other), settled);
        }
    }

    #[test]
    fn both_tools_say_the_same_of_variables() {
        let etcdctl = r#"{"level":"fatal","msg":"conflicting","environment-variable":"ETCDCTL_HEX"}"#;
        let quoratectl = "Error: conflicting environment variable ETCDCTL_HEX is shadowed by corresponding flag";
        assert_eq!(errors(etcdctl), errors(quoratectl));
        let etcdctl = r#"{"level":"warn","msg":"unrecognized","environment-variable":"ETCDCTL_FOO=x"}"#;
        assert_eq!(errors(etcdctl), errors("Warning: unrecognized environment variable ETCDCTL_FOO\n"));
        assert!(errors("{\"level\":\"warn\",\"msg\":\"retrying\"}\nUnavailable: a:1: refused\n").is_empty());
    }
}
