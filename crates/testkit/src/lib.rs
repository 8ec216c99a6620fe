//! What tests and benchmarks share.
//!
//! - [`grpc`]: the client of etcd's API, also for requests no proper client sends.

pub use client as grpc;
