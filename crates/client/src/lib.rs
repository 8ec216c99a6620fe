//! A lean gRPC client for etcd's API, on bare HTTP/2.
//!
//! It shows what the server really sent: codes, texts, message boundaries, headers and trailers; with the feature `raw`, it
//! can send what no proper client would ([`RawRequest`]). It costs little CPU per call. Clear text only.
//!
//! A [`Client`] is one connection; cloning it shares the connection. It retries nothing and times nothing out; callers do
//! ([`within`]).
//! [`Balanced`] is a cluster: it connects to whichever server answers, and repeats what may be repeated.
//!
//! Calls may run at the same time in any number. They need a tokio runtime, best a current-thread one: connecting spawns
//! the task that drives the connection.

mod address;
mod balanced;
mod connection;
mod etcd;
mod frame;
mod limit;
#[cfg(feature = "raw")]
mod raw;
mod status;
mod stream;

pub use address::{Endpoint, EndpointError};
pub use balanced::Balanced;
pub use connection::{Client, ConnectOptions, KeepAlive, Metadata};
pub use frame::frame;
pub use limit::within;
#[cfg(feature = "raw")]
pub use raw::{RawRequest, RawResponse};
pub use status::{Code, Status};
pub use stream::{Incoming, Outgoing, Stream};
