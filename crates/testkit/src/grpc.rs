//! A lean gRPC client on bare HTTP/2, for tests and load generators.
//!
//! It shows what the server really sent: codes, texts, message boundaries, headers and trailers, and can send what no
//! proper client would ([`Client::raw`]). It costs little CPU per call, so that on one machine it does not hide the
//! server's own. It retries nothing, balances nothing, times nothing out; callers do.
//!
//! A [`Client`] is one connection; cloning it shares the connection. Calls may run at the same time in any number. It
//! needs a tokio runtime, best a current-thread one: connecting spawns the task that drives the connection.

mod client;
mod etcd;
mod frame;
mod raw;
mod status;
mod stream;

pub use client::{Client, ConnectOptions, Metadata};
pub use frame::frame;
pub use raw::{RawRequest, RawResponse};
pub use status::{Code, Status};
pub use stream::{Incoming, Outgoing, Stream};
