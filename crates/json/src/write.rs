//! An encoded message to JSON text.

use std::io::Write;

use api::schema::{Field, Kind, Message};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Buf;

/// The bytes are not the message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Writes one message as it comes in, a piece at a time. Fields must come by rising number, as every encoder we know of
/// puts them.
///
/// However long a message, a field or a byte string in it is: what a writer holds is a few bytes for each message that
/// is open.
#[derive(Debug)]
pub struct Writer {
    /// The messages that have begun and not ended, each within the one before it.
    open: Vec<Open>,
    /// How much is still to come of the byte string that is being written.
    bytes_left: Option<usize>,
}

/// A message that is being written.
#[derive(Debug)]
struct Open {
    schema: &'static Message,
    /// How much of it is still to come.
    left: usize,
    /// The field that was written last.
    last: u32,
    /// Whether that is an array, which is still open.
    in_array: bool,
}

impl Writer {
    /// `len` is how many bytes the message takes encoded.
    pub fn new(schema: &'static Message, len: usize) -> Writer {
        Writer { open: vec![Open::new(schema, len)], bytes_left: None }
    }

    /// Writes what `wire` begins with and takes it off it, until `out` has about `text_bytes_max` bytes or more has to
    /// come. What is left of `wire` is to be passed in again, with what follows behind it. Returns whether the message
    /// has ended.
    ///
    /// # Errors
    /// The bytes are not this message.
    pub fn push(&mut self, wire: &mut &[u8], out: &mut Vec<u8>, text_bytes_max: usize) -> Result<bool, Unreadable> {
        while let Some(message) = self.open.last_mut() {
            if out.len() >= text_bytes_max {
                return Ok(false);
            }
            let mut part = &wire[..message.left.min(wire.len())];
            let before = part.len();
            let step = match &mut self.bytes_left {
                None => message.step(&mut part, out)?,
                Some(left) => put_some_base64(&mut part, left, text_bytes_max - out.len(), out),
            };
            let taken = before - part.len();
            message.left -= taken;
            wire.advance(taken);
            match step {
                Step::NeedsMore => return Ok(false),
                Step::Written => {}
                Step::BytesBegun(len) => self.bytes_left = Some(len),
                Step::BytesEnded => self.bytes_left = None,
                Step::MessageBegun(schema, len) => {
                    message.left -= len;
                    self.open.push(Open::new(schema, len));
                }
                Step::MessageEnded => drop(self.open.pop()),
            }
        }
        Ok(true)
    }
}

/// What a step of writing came to.
enum Step {
    NeedsMore,
    Written,
    /// A byte string of so many bytes.
    BytesBegun(usize),
    BytesEnded,
    /// A message of so many bytes.
    MessageBegun(&'static Message, usize),
    MessageEnded,
}

impl Open {
    fn new(schema: &'static Message, left: usize) -> Open {
        Open { schema, left, last: 0, in_array: false }
    }

    /// Writes the next field or its start, and takes it off `part`, which is what has come of the message.
    fn step(&mut self, part: &mut &[u8], out: &mut Vec<u8>) -> Result<Step, Unreadable> {
        if self.left == 0 {
            self.close_array(out);
            out.extend_from_slice(if self.last == 0 { b"{}" } else { b"}" });
            return Ok(Step::MessageEnded);
        }
        let (mut rest, is_whole) = (*part, part.len() == self.left);
        let Some((number, start)) = take_start(&mut rest)? else {
            return if is_whole { Err(Unreadable) } else { Ok(Step::NeedsMore) };
        };
        let left = self.left - (part.len() - rest.len());
        let field = self.schema.fields.iter().find(|field| field.number == number);
        let value = match (field.map(|field| (field, field.kind)), start) {
            (_, Start::Delimited(len)) if len > left => return Err(Unreadable),
            (Some((field, Kind::Message(schema))), Start::Delimited(len)) => {
                self.begin(field, out)?;
                *part = rest;
                return Ok(Step::MessageBegun(schema, len));
            }
            (Some((field, Kind::Bytes)), Start::Delimited(len @ 1..)) => {
                self.begin(field, out)?;
                out.push(b'"');
                *part = rest;
                return Ok(Step::BytesBegun(len));
            }
            // All else is short and written at once.
            (_, Start::Delimited(len)) => {
                let Some((bytes, after)) = rest.split_at_checked(len) else { return Ok(Step::NeedsMore) };
                rest = after;
                Value::Bytes(bytes)
            }
            (_, Start::Number(number)) => Value::Number(number),
        };
        if let Some(field) = field {
            self.field(field, value, out)?;
        }
        *part = rest;
        Ok(Step::Written)
    }

    /// Writes a field that is no message.
    fn field(&mut self, field: &Field, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if field.repeated {
            return match (field.kind, value) {
                (Kind::String | Kind::Bytes, _) | (_, Value::Number(_)) => {
                    self.begin(field, out)?;
                    put_value(field.kind, value, out)
                }
                (_, Value::Bytes(mut packed)) => {
                    while let Some(number) = take_varint(&mut packed)? {
                        self.begin(field, out)?;
                        put_value(field.kind, Value::Number(number), out)?;
                    }
                    if packed.is_empty() { Ok(()) } else { Err(Unreadable) }
                }
            };
        }
        let is_default = match value {
            Value::Number(number) => number == 0,
            Value::Bytes(bytes) => bytes.is_empty(),
        };
        if is_default && field.union.is_none() {
            return Ok(());
        }
        self.begin(field, out)?;
        put_value(field.kind, value, out)
    }

    /// Writes what stands before a value: the name, unless it is one more of the same array.
    fn begin(&mut self, field: &Field, out: &mut Vec<u8>) -> Result<(), Unreadable> {
        if self.in_array && self.last == field.number {
            out.push(b',');
            return Ok(());
        }
        if field.number <= self.last {
            return Err(Unreadable);
        }
        self.close_array(out);
        out.push(if self.last == 0 { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(if field.repeated { b"\":[" } else { b"\":" });
        (self.last, self.in_array) = (field.number, field.repeated);
        Ok(())
    }

    fn close_array(&self, out: &mut Vec<u8>) {
        if self.in_array {
            out.push(b']');
        }
    }
}

/// How a field begins.
#[derive(Clone, Copy)]
enum Start {
    Number(u64),
    /// The length of what follows.
    Delimited(usize),
}

/// A field's value as it is encoded.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes the start of the next field off `wire`, if all of that is there.
fn take_start(wire: &mut &[u8]) -> Result<Option<(u32, Start)>, Unreadable> {
    let Some(key) = take_varint(wire)? else { return Ok(None) };
    // No field of the API is of another type.
    if !matches!(key & 7, 0 | 2) {
        return Err(Unreadable);
    }
    let field = u32::try_from(key >> 3).map_err(|_| Unreadable)?;
    let Some(number) = take_varint(wire)? else { return Ok(None) };
    let start = match key & 7 {
        0 => Start::Number(number),
        _ => Start::Delimited(usize::try_from(number).map_err(|_| Unreadable)?),
    };
    Ok(Some((field, start)))
}

/// Takes a varint off `wire`, if all of it is there.
fn take_varint(wire: &mut &[u8]) -> Result<Option<u64>, Unreadable> {
    let mut number = 0;
    for (at, &byte) in wire.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            wire.advance(at + 1);
            return Ok(Some(number));
        }
    }
    if wire.len() < 10 { Ok(None) } else { Err(Unreadable) }
}

fn put_value(kind: Kind, value: Value<'_>, out: &mut Vec<u8>) -> Result<(), Unreadable> {
    match (kind, value) {
        (Kind::Bool, Value::Number(number)) => out.extend_from_slice(if number == 0 { b"false" } else { b"true" }),
        (Kind::Int32, Value::Number(number)) => put_number(number as i32, "", out),
        (Kind::Uint32, Value::Number(number)) => put_number(number as u32, "", out),
        (Kind::Int64, Value::Number(number)) => put_number(number as i64, "\"", out),
        (Kind::Uint64, Value::Number(number)) => put_number(number, "\"", out),
        (Kind::Enum(values), Value::Number(number)) => {
            let number = number as i32;
            match values.values.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => write_string(name, out),
                None => put_number(number, "", out),
            }
        }
        (Kind::String, Value::Bytes(bytes)) => {
            write_string(std::str::from_utf8(bytes).map_err(|_| Unreadable)?, out);
        }
        // One that is not empty comes piece by piece.
        (Kind::Bytes, Value::Bytes(b"")) => out.extend_from_slice(b"\"\""),
        _ => return Err(Unreadable),
    }
    Ok(())
}

fn put_number(number: impl std::fmt::Display, quote: &str, out: &mut Vec<u8>) {
    write!(out, "{quote}{number}{quote}").expect("writing to memory does not fail");
}

/// Appends `text` in quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing text to memory does not fail");
}

/// Writes what `part` has of a byte string of which `left` is to come: all of it, or as many groups of three bytes as
/// there are and as fit into about `text_bytes_max`. Takes it off both.
fn put_some_base64(part: &mut &[u8], left: &mut usize, text_bytes_max: usize, out: &mut Vec<u8>) -> Step {
    let fitting = (text_bytes_max / 4 + 1).saturating_mul(3);
    let mut len = part.len().min(*left).min(fitting);
    if len < *left {
        len -= len % 3;
    }
    if len == 0 {
        return Step::NeedsMore;
    }
    let start = out.len();
    out.resize(start + len.div_ceil(3) * 4, 0);
    BASE64_STANDARD.encode_slice(&part[..len], &mut out[start..]).expect("room is made for exactly that");
    part.advance(len);
    *left -= len;
    if *left > 0 {
        return Step::Written;
    }
    out.push(b'"');
    Step::BytesEnded
}
