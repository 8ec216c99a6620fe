//! Compiles the .proto files with a compiler written in Rust: no `protoc` is needed.

use std::path::Path;

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
    let descriptors = protox::compile(FILES, [root]).expect("the .proto files are correct");
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)
        .expect("the generated code can be written to OUT_DIR");
}
