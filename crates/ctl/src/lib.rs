//! `quoratectl`: what `etcdctl` does, in its words. Its commands, flags, variables, outputs and exit codes.
//!
//! ```text
//! arguments --> commands (the table) --> Invocation --> a command's function --> Session --> Answer --> output
//! ```
//!
//! Invariants
//! - One table ([`commands`]) knows every command and flag: parsing, help and completion come from it.
//! - A command checks its arguments before anything is asked of a server.
//! - What is not there yet is in the table too, and says so by name.
//!
//! Sets no allocator and ends no process: other programs may call [`main`].
//!
//! Source of names, texts, formats and exit codes: etcd 3.5, `etcdctl/ctlv3`.

mod failure;
mod flags;
mod go;

mod commands;
mod help;
mod invocation;

mod session;
mod settings;

mod output;

mod check;
mod compaction;
mod completion;
mod del;
mod elect;
mod endpoint;
mod get;
mod hold;
mod lease;
mod lock;
mod maintenance;
mod member;
mod program;
mod put;
mod range;
mod standard;
mod txn;
mod version;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::invocation::Step;

/// Does what the arguments say, the first of which is the program's name, and returns the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match invocation::read(arguments) {
        Ok(Step::Run(invocation, run)) => run(&invocation),
        Ok(Step::Help(text)) => standard::print(text.as_bytes()),
        Ok(Step::UnknownTopic { complaint, help }) => {
            standard::complain(&complaint);
            standard::print(help.as_bytes())
        }
        Err(misuse) => standard::print(misuse.help.as_bytes()).and(Err(misuse.failure)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
