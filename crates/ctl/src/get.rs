//! `get`

use api::etcdserverpb::RangeRequest;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use types::go_quote;

use crate::failure::{Exit, Failure};
use crate::flags::Given;
use crate::invocation::Invocation;
use crate::output::{Answer, Format};
use crate::range;
use crate::session::Session;

pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    let given = &invocation.given;
    let request = request(given)?;
    let session = Session::open(invocation)?;
    let response = session.limited(session.cluster.read(|client| {
        let request = request.clone();
        async move { client.range(request).await }
    }))?;
    let mut printer = session.printer;
    if given.is_set("count-only") && printer.format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    if given.is_set("print-value-only") {
        if printer.format != Format::Simple {
            return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
        }
        printer = printer.values_only();
    }
    printer.print(&Answer::Get(&response))
}

/// Reads words and flags of a `get`, in a transaction too.
///
/// # Errors
/// If they are wrong.
pub(crate) fn request(given: &Given) -> Result<RangeRequest, Failure> {
    if given.words.is_empty() {
        return Err(Failure::arguments("get command needs one argument as key and an optional argument as range_end"));
    }
    range::either_prefix_or_from_key(given)?;
    if given.is_set("keys-only") && given.is_set("count-only") {
        return Err(Failure::arguments("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let serializable = serializable(given)?;
    let (key, range_end) = range::keys(given)?;
    let order = given.text("order");
    let sort_order = match &*order.to_uppercase() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(Failure::new(Exit::BadFeature, format!("bad sort order {order}"))),
    };
    let target = given.text("sort-by");
    let sort_target = match &*target.to_uppercase() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::new(Exit::BadFeature, format!("bad sort target {target}"))),
    };
    Ok(RangeRequest {
        key,
        range_end,
        limit: given.int("limit"),
        revision: given.int("rev").max(0),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: given.is_set("keys-only"),
        count_only: given.is_set("count-only"),
        min_mod_revision: given.int("min-mod-rev"),
        max_mod_revision: given.int("max-mod-rev"),
        min_create_revision: given.int("min-create-rev"),
        max_create_revision: given.int("max-create-rev"),
    })
}

/// # Errors
/// If `--consistency` is neither.
pub(crate) fn serializable(given: &Given) -> Result<bool, Failure> {
    match given.value("consistency").unwrap_or(b"l") {
        b"s" => Ok(true),
        b"l" => Ok(false),
        other => Err(Failure::new(Exit::BadFeature, format!("unknown consistency flag {}", go_quote(other)))),
    }
}
