//! `put`

use std::io;

use api::etcdserverpb::PutRequest;
use bytes::Bytes;

use crate::failure::Failure;
use crate::flags::Given;
use crate::invocation::Invocation;
use crate::output::Answer;
use crate::session::Session;
use crate::{go, standard};

const WORDS: &str = "put command needs 1 argument and input from stdin or 2 arguments";

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let request = request(&invocation.given, standard::read_all)?;
    let session = Session::open(invocation)?;
    let response = session.limited(session.cluster.write(|client| async move { client.put(request).await }))?;
    session.print(&Answer::Put(&response))
}

/// Reads words and flags of a `put`, in a transaction too; `input` gives the value if no word is.
///
/// # Errors
/// If they are wrong, or `input` cannot be read.
pub(crate) fn request(given: &Given, input: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<PutRequest, Failure> {
    let key = given.words.first().ok_or_else(|| Failure::arguments(WORDS))?;
    let ignore_value = given.is_set("ignore-value");
    if ignore_value && given.words.len() > 1 {
        return Err(Failure::arguments("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match given.words.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => match input() {
            Ok(input) if input.is_empty() => return Err(Failure::arguments(WORDS)),
            Ok(input) => input,
            Err(error) => return Err(Failure::arguments(format!("standard input cannot be read: {error}"))),
        },
    };
    let lease = go::parse_int(given.value("lease").unwrap_or(b"0"), 16)
        .map_err(|why| Failure::arguments(format!("bad lease ID ({why}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: Bytes::copy_from_slice(key),
        value: value.into(),
        lease,
        prev_kv: given.is_set("prev-kv"),
        ignore_value,
        ignore_lease: given.is_set("ignore-lease"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::PUT_FLAGS;
    use crate::flags;

    fn read(input: io::Result<Vec<u8>>) -> Result<PutRequest, String> {
        let given = flags::read([b"k".to_vec()], &PUT_FLAGS).expect("it is a word");
        request(&given, || input).map_err(|failure| failure.text().to_owned())
    }

    #[test]
    fn a_value_comes_from_standard_input_or_it_is_told_why_not() {
        assert_eq!(read(Ok(b"v\n".to_vec())).map(|request| request.value), Ok("v\n".into()));
        assert_eq!(read(Ok(Vec::new())), Err(WORDS.to_owned()));
        let broken = read(Err(io::ErrorKind::IsADirectory.into()));
        assert_eq!(broken, Err("standard input cannot be read: is a directory".to_owned()));
    }
}
