//! `compaction`

use api::etcdserverpb::CompactionRequest;

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::session::Session;
use crate::{go, standard};

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let given = &invocation.given;
    let [revision] = &given.words[..] else {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    };
    let revision = go::parse_int(revision, 10).map_err(Failure::error)?;
    let physical = given.is_set("physical");
    let session = Session::open(invocation)?;
    let request = CompactionRequest { revision, physical };
    let call = session.cluster.write(|client| async move { client.compact(request).await });
    // The file may be large.
    match physical {
        true => session.block_on(call)?,
        false => session.limited(call)?,
    };
    standard::print(format!("compacted revision {revision}\n").as_bytes())
}
