//! What tests and benchmarks share.
//!
//! - [`grpc`]: the client of etcd's API, also for requests no proper client sends.
//! - [`name_server`]: a name server that answers as a test wants.

pub mod name_server;

pub use client as grpc;
