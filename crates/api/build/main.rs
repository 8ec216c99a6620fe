//! Compiles the .proto files with a compiler written in Rust: no `protoc` is needed. Message types and tables come of it.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a build script talks to cargo and writes files")]

mod schema;

use std::path::Path;
use std::{env, fs};

const FILES: [&str; 10] = [
    "authpb.proto",
    "health.proto",
    "leasepb.proto",
    "membershippb.proto",
    "mvccpb.proto",
    "raft_internal.proto",
    "raftpb.proto",
    "rpc.proto",
    "v3electionpb.proto",
    "v3lockpb.proto",
];

fn main() {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build");
    let descriptors = protox::compile(FILES, [root]).expect("the .proto files are correct");
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out_dir).join("schema.rs"), schema::tables(&descriptors)).expect("OUT_DIR can be written to");
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)
        .expect("the generated code can be written to OUT_DIR");
}
