//! The front end that clients talk to: gRPC over HTTP/2, its JSON form and a few plain endpoints over HTTP/1.1.
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
//! methods), `watches` (the worker's watch hub), `http1` with `request_target` (plain HTTP), `gateway` (the JSON form);
//! `meters` counts what happens in all of them.

mod gateway;
mod header;
mod http1;
mod leadership;
mod meters;
mod monitoring;
mod request_target;
mod route;
mod rpc;
mod service;
mod status;
mod transport;
mod watches;
mod worker;

pub use meters::Meters;
pub use route::NOT_YET;
pub use worker::{Settings, Surface, Worker};
