//! The front end that clients talk to: gRPC over HTTP/2, and the few plain HTTP/1.1 endpoints of this stage.
//!
//! Translates calls into calls of [`server::Handle`] and the answers back; decides nothing that the server could.
//! There is one [`Worker`] a network thread; its connections, calls and watch streams never leave it.
//!
//! Invariants
//! - What a client sends can end its call or its connection, never more.
//! - What waits for a client that does not read is bounded, per call and per connection.
//! - The answers that are ready in one turn of a worker leave in one write per connection.
//!
//! The parts, from the wire inwards: `transport` (connections), `rpc` (gRPC without any service), `service` (the
//! methods), `watches` (the worker's watch hub), `http1` with `request_target`.

mod header;
mod http1;
mod leadership;
mod request_target;
mod route;
mod rpc;
mod service;
mod status;
mod transport;
mod watches;
mod worker;

pub use route::NOT_YET;
pub use worker::{Settings, Worker};
