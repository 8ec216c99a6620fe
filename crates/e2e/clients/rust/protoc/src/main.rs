//! Prints where the protobuf compiler lies that building the client library takes.

fn main() {
    let path = protoc_bin_vendored::protoc_bin_path().expect("there is a compiler for this platform");
    println!("{}", path.display());
}
