//! `version`

use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::standard;

/// The etcdctl whose commands and outputs these are.
pub(crate) const COMPATIBLE: &str = "3.5.30";

/// The version of etcd's API by which the calls are made.
pub(crate) const API_VERSION: &str = "3.5";

/// Scripts read the first lines.
pub(crate) fn run(_: &Invocation) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    standard::print(
        format!("etcdctl version: {COMPATIBLE}\nAPI version: {API_VERSION}\nQuorate version: {own}\n").as_bytes(),
    )
}
