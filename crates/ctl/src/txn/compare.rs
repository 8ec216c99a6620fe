//! One comparison of a transaction: `target("key") op "value"`.

use api::etcdserverpb::Compare;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use types::go_quote;

use crate::failure::{Exit, Failure};
use crate::go::{parse_int, unquote};

/// # Errors
/// If it is none.
pub(super) fn read(line: &[u8]) -> Result<Compare, Failure> {
    let shown = String::from_utf8_lossy(line);
    let malformed = |why: &str| Failure::new(Exit::InvalidInput, format!("malformed comparison: {shown}{why}"));
    let Some(open) = line.iter().position(|byte| *byte == b'(') else { return Err(malformed("")) };
    let target = String::from_utf8_lossy(&line[..open]);
    let Parts { key, operator, value, whole } = parts(&line[open + 1..]);
    if !whole {
        let operator = String::from_utf8_lossy(&operator);
        return Err(malformed(&format!("; got {target}({}) {operator} {}", go_quote(&key), go_quote(&value))));
    }
    let number = |radix| {
        let invalid = |_| Failure::new(Exit::InvalidInput, format!("invalid txn compare request: {shown}"));
        parse_int(&value, radix).map_err(invalid)
    };
    let (target, union) = match &*target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        _ => return Err(malformed(&format!(" (unknown target {target})"))),
    };
    let result = match &operator[..] {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        other => return Err(malformed(&format!(" (unknown operator {})", String::from_utf8_lossy(other)))),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Default::default(),
        target_union: Some(union),
    })
}

/// What stands behind the opening parenthesis, as far as it could be read.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: Vec<u8>,
    value: Vec<u8>,
    whole: bool,
}

fn parts(text: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let Some((key, rest)) = unquote(text.trim_ascii_start()) else { return parts };
    parts.key = key;
    let Some(rest) = rest.strip_prefix(b") ") else { return parts };
    let rest = rest.trim_ascii_start();
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    parts.operator = rest[..end].to_vec();
    let Some((value, _)) = unquote(rest[end..].trim_ascii_start()) else { return parts };
    parts.value = value;
    parts.whole = true;
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_read() {
        for line in [
            r#"mod("k") > "0""#,
            r#"m("k") < "5""#,
            r#"ver("k") = "1""#,
            r#"val("k") != "a b""#,
            r#"lease("k") = "ff""#,
        ] {
            assert_eq!(read(line.as_bytes()).expect(line).key, "k");
        }
        let lease = read(br#"lease("k") = "ff""#).expect("it is right");
        assert_eq!(lease.target_union, Some(TargetUnion::Lease(255)));
    }

    #[test]
    fn mistakes_are_told() {
        for (line, text) in [
            ("mod", "malformed comparison: mod"),
            (r#"mod("a")>"0""#, r#"malformed comparison: mod("a")>"0"; got mod("a")  """#),
            (r#"mod("a") > 0"#, r#"malformed comparison: mod("a") > 0; got mod("a") > """#),
            (r#"mod(a) > "0""#, r#"malformed comparison: mod(a) > "0"; got mod("")  """#),
            (r#"mod("a") > "x""#, r#"invalid txn compare request: mod("a") > "x""#),
            (r#"size("a") > "1""#, r#"malformed comparison: size("a") > "1" (unknown target size)"#),
            (r#"mod("a") ~ "1""#, r#"malformed comparison: mod("a") ~ "1" (unknown operator ~)"#),
        ] {
            assert_eq!(read(line.as_bytes()).expect_err(line).text(), text);
        }
    }
}
