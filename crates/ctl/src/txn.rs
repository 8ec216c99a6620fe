//! `txn`: comparisons and requests from standard input, as one transaction.

mod compare;

use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{RequestOp, TxnRequest};

use crate::commands::{DEL_FLAGS, GET_FLAGS, PUT_FLAGS};
use crate::failure::{Exit, Failure};
use crate::flags::{self, Word};
use crate::go::unquote;
use crate::invocation::Invocation;
use crate::output::Answer;
use crate::session::Session;
use crate::{del, get, put, standard};

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    if !invocation.given.words.is_empty() {
        return Err(Failure::arguments("txn command does not accept argument"));
    }
    let interactive = invocation.given.is_set("interactive");
    let session = Session::open(invocation)?;
    let prompt = |text: &str| if interactive { standard::print(text.as_bytes()) } else { Ok(()) };
    prompt("compares:\n")?;
    let compare = part(compare::read)?;
    prompt("success requests (get, put, del):\n")?;
    let success = part(request)?;
    prompt("failure requests (get, put, del):\n")?;
    let failure = part(request)?;
    let request = TxnRequest { compare, success, failure };
    let writes = |ops: &[RequestOp]| ops.iter().any(|op| !matches!(op.request, Some(Request::RequestRange(_))));
    let response = if writes(&request.success) || writes(&request.failure) {
        session.block_on(session.cluster.write(|client| async move { client.txn(request).await }))?
    } else {
        session.block_on(session.cluster.read(|client| {
            let request = request.clone();
            async move { client.txn(request).await }
        }))?
    };
    session.print(&Answer::Txn(&response))
}

/// The lines up to the next empty one.
fn part<T>(read: impl Fn(&[u8]) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    loop {
        let line = standard::read_line().map_err(|error| Failure::new(Exit::InvalidInput, error.to_string()))?;
        let line = line.ok_or_else(|| Failure::new(Exit::InvalidInput, "EOF"))?;
        match line.trim_ascii() {
            b"" => return Ok(items),
            line => items.push(read(line)?),
        }
    }
}

/// One `get`, `put` or `del` with its flags.
fn request(line: &[u8]) -> Result<RequestOp, Failure> {
    let invalid =
        |what: &str| Failure::new(Exit::InvalidInput, format!("invalid txn {what}: {}", String::from_utf8_lossy(line)));
    let words = words(line)?;
    let [command, rest @ ..] = &words[..] else { return Err(invalid("compare request")) };
    if rest.is_empty() {
        return Err(invalid("compare request"));
    }
    let read = |flags| flags::read(rest.iter().cloned(), flags).map_err(|_| invalid("request"));
    let request = match &command[..] {
        b"get" => Request::RequestRange(get::request(&read(&GET_FLAGS)?)?),
        b"put" => Request::RequestPut(put::request(&read(&PUT_FLAGS)?, || Ok(Vec::new()))?),
        b"del" => Request::RequestDeleteRange(del::request(&read(&DEL_FLAGS)?)?),
        _ => return Err(invalid("request")),
    };
    Ok(RequestOp { request: Some(request) })
}

/// The words of a line: `plain`, `'as it is'`, `"with \"escapes\""`. A quote that is not closed means nothing.
///
/// # Errors
/// If there is an escape that Go does not know.
pub(crate) fn words(line: &[u8]) -> Result<Vec<Word>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        let end = match first {
            b'"' => closing_quote(after),
            b'\'' => after.iter().position(|byte| *byte == b'\''),
            _ if first.is_ascii_whitespace() => None,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_vec());
                rest = &rest[end..];
                continue;
            }
        };
        match end {
            None => rest = after,
            Some(end) if first == b'\'' => {
                words.push(after[..end].to_vec());
                rest = &after[end + 1..];
            }
            Some(end) => {
                let (word, _) =
                    unquote(&rest[..end + 2]).ok_or_else(|| Failure::new(Exit::InvalidInput, "invalid syntax"))?;
                words.push(word);
                rest = &after[end + 1..];
            }
        }
    }
    Ok(words)
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        let words = words(line.as_bytes()).expect("it is right");
        words.into_iter().map(|word| String::from_utf8(word).expect("the tests are text")).collect()
    }

    #[test]
    fn words_are_plain_or_quoted_either_way() {
        assert_eq!(split(r#"put k "a \"b\" c"  'd "e" f'"#), ["put", "k", r#"a "b" c"#, r#"d "e" f"#]);
        assert_eq!(split(r#"put it's a"b"#), ["put", "it's", "a\"b"]);
        assert_eq!(split(r#"put "open"#), ["put", "open"]);
        assert_eq!(split(""), [""; 0]);
        assert!(words(br#"put "\q""#).is_err());
    }

    #[test]
    fn requests_have_the_flags_of_their_commands() {
        assert!(matches!(
            request(b"get a --prefix --limit 3").map(|op| op.request),
            Ok(Some(Request::RequestRange(range))) if range.range_end == "b" && range.limit == 3
        ));
        for (line, text) in [
            ("put", "invalid txn compare request: put"),
            ("bogus a", "invalid txn request: bogus a"),
            ("put a b --bogus", "invalid txn request: put a b --bogus"),
            ("put a", "put command needs 1 argument and input from stdin or 2 arguments"),
        ] {
            assert_eq!(request(line.as_bytes()).expect_err(line).text(), text);
        }
    }
}
