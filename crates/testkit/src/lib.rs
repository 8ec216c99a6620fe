//! What tests and benchmarks share.
//!
//! - [`grpc`]: a lean gRPC client that reports exactly what a server sent.

pub mod grpc;
