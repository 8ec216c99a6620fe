//! `quoratectl`, which is the library `ctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ctl::main(std::env::args_os())
}
