//! gRPC on top of HTTP/2 streams: metadata, framing, compression, status, deadlines, cancellation. Knows no service.

mod call;
mod gzip;
mod metadata;
mod requests;
mod respond;

pub(crate) use call::{Answer, Call, unary};
pub(crate) use metadata::Metadata;
pub(crate) use requests::Requests;
pub(crate) use respond::{Gone, MessageTail, Outgoing};

#[cfg(test)]
mod tests;
