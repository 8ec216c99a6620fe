//! `del`

use api::etcdserverpb::DeleteRangeRequest;
use types::go_quote;

use crate::failure::Failure;
use crate::flags::Given;
use crate::invocation::Invocation;
use crate::output::Answer;
use crate::session::Session;
use crate::{range, standard};

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let given = &invocation.given;
    let request = request(given)?;
    warn_of_range(given);
    let session = Session::open(invocation)?;
    let response =
        session.limited(session.cluster.write(|client| async move { client.delete_range(request).await }))?;
    session.print(&Answer::Del(&response))
}

/// Reads words and flags of a `del`, in a transaction too.
///
/// # Errors
/// If they are wrong.
pub(crate) fn request(given: &Given) -> Result<DeleteRangeRequest, Failure> {
    if !(1..=2).contains(&given.words.len()) {
        return Err(Failure::arguments("del command needs one argument as key and an optional argument as range_end"));
    }
    range::either_prefix_or_from_key(given)?;
    let (key, range_end) = range::keys(given)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: given.is_set("prev-kv") })
}

/// Two words may be two keys in the mind of who wrote them.
fn warn_of_range(given: &Given) {
    let [key, end] = &given.words[..] else { return };
    if !given.is_set("range") {
        standard::complain(&format!(
            "Warning: deletes all keys from {} up to {}; --range says that this is meant (etcdctl 3.6 waits two seconds \
             without it)",
            go_quote(key),
            go_quote(end)
        ));
    }
}
