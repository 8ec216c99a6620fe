//! A lean gRPC client for etcd's API, on bare HTTP/2.
//!
//! It shows what the server really sent: codes, texts, message boundaries, headers and trailers; with the feature `raw`, it
//! can send what no proper client would ([`RawRequest`]). It costs little CPU per call. It retries nothing, balances
//! nothing, times nothing out; callers do. Clear text only.
//!
//! A [`Client`] is one connection; cloning it shares the connection. Calls may run at the same time in any number. It
//! needs a tokio runtime, best a current-thread one: connecting spawns the task that drives the connection.

mod connection;
mod etcd;
mod frame;
#[cfg(feature = "raw")]
mod raw;
mod status;
mod stream;

pub use connection::{Client, ConnectOptions, Metadata};
pub use frame::frame;
#[cfg(feature = "raw")]
pub use raw::{RawRequest, RawResponse};
pub use status::{Code, Status};
pub use stream::{Incoming, Outgoing, Stream};
