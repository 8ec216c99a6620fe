//! gRPC on top of HTTP/2 streams: metadata, framing, compression, status, deadlines, cancellation. Knows no service, and of
//! messages only where a transaction has its operations.

mod call;
mod gzip;
pub(crate) mod local;
mod metadata;
mod operations;
mod requests;
mod respond;

pub(crate) use call::{Answer, Call, unary};
pub(crate) use metadata::{ClientVersion, Metadata};
pub(crate) use requests::Requests;
pub(crate) use respond::{Gone, MessageTail, Outgoing};

#[cfg(test)]
mod tests;
