//! The JSON form of protobuf messages, by the tables of `api::schema`: JSON text to encoded messages and back.
//!
//! It goes from bytes to bytes: no message type is built on the way, so the code is the same for all of them, and a long
//! message can be put out while it comes in.
//!
//! Invariants
//! - What is written is compact, has the names of the .proto files and leaves zeros out; 64-bit numbers are strings.
//! - What is read may be anything: it is understood or refused, and costs no more memory than a few times its length
//!   beside the message, of which no more is kept than it may have, and no more stack than a fixed depth.
//! - What is written is written in pieces, and what is kept for that does not grow with the message or with what is in
//!   it.
//!
//! Source: protobuf.dev, "ProtoJSON format"; how lenient reading is, from Go's `protojson` and grpc-gateway.

mod find_end;
mod number;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use find_end::ValueEnd;
pub use read::read;
pub use write::{Unreadable, Writer, write_string};

/// Why text is not the JSON form of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is nested deeper than messages are.
    TooDeep,
    /// The message takes so many bytes, and may not.
    TooLong(usize),
    Text(String),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::TooDeep => f.write_str("nested too deep"),
            Wrong::TooLong(len) => write!(f, "a message of {len} bytes is too long"),
            Wrong::Text(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Wrong {}
