//! Tells the code which compiler builds it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").expect("cargo says which compiler it uses");
    let said = Command::new(compiler).arg("--version").output().expect("the compiler runs");
    let said = String::from_utf8(said.stdout).expect("it says its version in plain text");
    let version = said.split_whitespace().nth(1).expect("it says its name, then its version");
    println!("cargo:rustc-env=QUORATE_RUST_VERSION={version}");
}
