//! Connections: telling HTTP/2 from HTTP/1.1, keeping them alive, ending them. Knows nothing of gRPC.

mod budget;
mod connection;
mod frame_walker;
mod keepalive;
mod lingering;
mod opening;
mod ping_policy;
mod socket;

pub(crate) use budget::{Account, Budget, Charge};
pub(crate) use connection::{ConnectionError, Incoming, Settings, serve};
pub(crate) use lingering::Lingering;
pub(crate) use opening::{Protocol, read_opening};
