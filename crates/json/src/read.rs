//! JSON text to an encoded message.
//!
//! As lenient as Go's `protojson` is when it discards unknown fields: names as in the .proto file or in lowerCamelCase, null
//! for what is not set, whole numbers however they are written and also in quotes, enums by name or number, either
//! alphabet of base64 with or without padding. Beyond that it looks into objects named after a union
//! (`"TargetUnion": {"version": 1}`), which older clients send.

use std::borrow::Cow;

use api::schema::{Enum, Field, Kind, Message};
use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use types::{put_varint, varint_len};

use crate::Wrong;
use crate::number::parse_whole;

const VARINT: u64 = 0;
const DELIMITED: u64 = 2;

const PLAIN: [GeneralPurpose; 2] = [base64(&STANDARD, true), base64(&STANDARD, false)];
const URL: [GeneralPurpose; 2] = [base64(&URL_SAFE, true), base64(&URL_SAFE, false)];

const fn base64(alphabet: &Alphabet, padded: bool) -> GeneralPurpose {
    let padding = if padded { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding).with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

/// How much of a wrong value is shown.
const SHOWN_BYTES_MAX: usize = 200;

/// Appends the message that the first value of `text` is to `out`, encoded. What follows that value is not looked at.
///
/// # Errors
/// It is no JSON, or not of this message, or takes more than `bytes_max`; what `out` has then means nothing.
pub fn read(schema: &'static Message, text: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Wrong> {
    let text = std::str::from_utf8(text).map_err(|_| Wrong::Text("proto: invalid UTF-8 in string".into()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut out = Encoded { bytes: out, len: 0, bytes_max };
    let message = Object { text, schema, seen: &mut Seen::default(), out: &mut out };
    let outcome = message.deserialize(&mut deserializer).map_err(|error| {
        let error = error.to_string();
        // These end with where they were noticed; ours say where the value begins.
        match error.split_once(FIELD_ERROR) {
            Some((_, wrong)) => {
                Wrong::Text(format!("proto: {}", wrong.rsplit_once(" at line ").map_or(wrong, |(wrong, _)| wrong)))
            }
            None if error.starts_with("recursion limit exceeded") => Wrong::TooDeep,
            None => Wrong::Text(error),
        }
    });
    match outcome {
        Ok(()) if out.len > bytes_max => Err(Wrong::TooLong(out.len)),
        outcome => outcome,
    }
}

/// A message as it is encoded. Past its limit it is only measured.
struct Encoded<'a> {
    bytes: &'a mut Vec<u8>,
    /// How much it takes so far, kept or not.
    len: usize,
    bytes_max: usize,
}

impl Encoded<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if self.len <= self.bytes_max {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn put_varint(&mut self, number: u64) {
        self.len += varint_len(number);
        if self.len <= self.bytes_max {
            put_varint(self.bytes, number);
        }
    }

    /// Puts how much was put since it took `before` in front of that.
    fn put_length_before(&mut self, before: usize) {
        let content_len = self.len - before;
        self.len += varint_len(content_len as u64);
        if self.len <= self.bytes_max {
            let mut prefix = Vec::new();
            put_varint(&mut prefix, content_len as u64);
            let start = self.bytes.len() - content_len;
            self.bytes.splice(start..start, prefix);
        }
    }

    fn put_tag(&mut self, field: &Field, wire_type: u64) {
        self.put_varint(u64::from(field.number) << 3 | wire_type);
    }

    fn put_delimited(&mut self, field: &Field, bytes: &[u8]) {
        self.put_tag(field, DELIMITED);
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

/// Begins the errors that are ours and not the parser's.
const FIELD_ERROR: &str = "\u{1}";

/// Which fields and unions of a message have come, by position.
#[derive(Default)]
struct Seen {
    fields: u64,
    unions: u64,
}

/// Reads an object and adds its fields to a message.
struct Object<'a, 'b, 'de> {
    text: &'de str,
    schema: &'static Message,
    seen: &'a mut Seen,
    out: &'a mut Encoded<'b>,
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an object, for {}", self.schema.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Object { text, schema, seen, out } = self;
        while let Some(name) = map.next_key_seed(NameOf(schema))? {
            match name {
                Name::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                }
                Name::Union => {
                    map.next_value_seed(Nullable(Object { text, schema, seen, out }))?;
                }
                Name::Field(position) => {
                    let field = &schema.fields[position];
                    if !insert(&mut seen.fields, position) {
                        return Err(wrong(format!("duplicate field {:?}", field.name)));
                    }
                    let set = match (field.repeated, field.kind) {
                        (true, _) => map.next_value_seed(Nullable(List { text, field, out }))?,
                        (false, Kind::Message(schema)) => {
                            map.next_value_seed(Nullable(Nested { text, field, schema, out }))?
                        }
                        (false, _) => {
                            let value: &RawValue = map.next_value()?;
                            let is_set = value.get() != "null";
                            if is_set {
                                put_scalar(text, field, value.get(), out).map_err(wrong)?;
                            }
                            is_set
                        }
                    };
                    if set
                        && let Some(union) = field.union
                        && !insert(&mut seen.unions, union)
                    {
                        let union = schema.unions[union];
                        return Err(wrong(format!(
                            "error parsing {:?}, oneof {}.{union} is already set",
                            field.name, schema.name
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Adds a position to a set; `false` if it was there.
fn insert(set: &mut u64, position: usize) -> bool {
    let bit = 1 << position;
    let is_new = *set & bit == 0;
    *set |= bit;
    is_new
}

#[allow(clippy::needless_pass_by_value, reason = "it is passed as a function")]
fn wrong<E: Error>(text: String) -> E {
    E::custom(format_args!("{FIELD_ERROR}{text}"))
}

enum Name {
    Field(usize),
    Union,
    Unknown,
}

/// Looks up a name in a message.
struct NameOf(&'static Message);

impl<'de> DeserializeSeed<'de> for NameOf {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for NameOf {
    type Value = Name;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        let position = self.0.fields.iter().position(|field| field.name == name || field.json_name == name);
        Ok(match position {
            Some(position) => Name::Field(position),
            None if self.0.unions.contains(&name) => Name::Union,
            None => Name::Unknown,
        })
    }
}

/// Reads a value that may be null; tells whether it is not.
struct Nullable<T>(T);

impl<'de, T: DeserializeSeed<'de, Value = ()>> DeserializeSeed<'de> for Nullable<T> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: DeserializeSeed<'de, Value = ()>> Visitor<'de> for Nullable<T> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        self.0.deserialize(deserializer).map(|()| true)
    }
}

/// Reads an object and adds it as a field.
struct Nested<'a, 'b, 'de> {
    text: &'de str,
    field: &'static Field,
    schema: &'static Message,
    out: &'a mut Encoded<'b>,
}

impl<'de> DeserializeSeed<'de> for Nested<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Nested { text, field, schema, out } = self;
        out.put_tag(field, DELIMITED);
        let before = out.len;
        Object { text, schema, seen: &mut Seen::default(), out }.deserialize(deserializer)?;
        // How long it is shows only now.
        out.put_length_before(before);
        Ok(())
    }
}

/// Reads an array and adds what is in it.
struct List<'a, 'b, 'de> {
    text: &'de str,
    field: &'static Field,
    out: &'a mut Encoded<'b>,
}

impl<'de> DeserializeSeed<'de> for List<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an array, for {}", self.field.name)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let List { text, field, out } = self;
        if let Kind::Message(schema) = field.kind {
            while sequence.next_element_seed(Nested { text, field, schema, out })?.is_some() {}
            return Ok(());
        }
        while let Some(value) = sequence.next_element::<&RawValue>()? {
            put_scalar(text, field, value.get(), out).map_err(wrong)?;
        }
        Ok(())
    }
}

/// Adds a field that is no message. `value` is a piece of `text`.
///
/// # Errors
/// What is wrong with the value.
fn put_scalar(text: &str, field: &Field, value: &str, out: &mut Encoded<'_>) -> Result<(), String> {
    let invalid = || {
        let kind = kind_name(field.kind);
        let (position, shown) = (position_of(value, text), shorten(value));
        format!("{position}: invalid value for {kind} field {}: {shown}", field.json_name)
    };
    let number = |least: i128, most: i128| {
        let digits = if value.starts_with('"') { unquote(value) } else { Some(value.into()) };
        let number = digits.and_then(|digits| parse_whole(&digits));
        number.filter(|number| (least..=most).contains(number)).ok_or_else(invalid)
    };
    let number = match field.kind {
        Kind::Bool => match value {
            "true" => 1,
            "false" => 0,
            _ => return Err(invalid()),
        },
        // A negative number takes its bits in 64, whatever its own size.
        Kind::Int32 => number(i32::MIN.into(), i32::MAX.into())? as u64,
        Kind::Int64 => number(i64::MIN.into(), i64::MAX.into())? as u64,
        Kind::Uint32 => number(0, u32::MAX.into())? as u64,
        Kind::Uint64 => number(0, u64::MAX.into())? as u64,
        Kind::Enum(values) if value.starts_with('"') => match enum_number(values, value) {
            Some(number) => number as u64,
            None => return Ok(()),
        },
        Kind::Enum(_) => number(i32::MIN.into(), i32::MAX.into())? as u64,
        Kind::String => {
            let string = unquote(value).ok_or_else(invalid)?;
            out.put_delimited(field, string.as_bytes());
            return Ok(());
        }
        Kind::Bytes => {
            let bytes = unquote(value).and_then(|text| decode_base64(&text)).ok_or_else(invalid)?;
            out.put_delimited(field, &bytes);
            return Ok(());
        }
        Kind::Message(_) => unreachable!("messages are no scalars"),
    };
    out.put_tag(field, VARINT);
    out.put_varint(number);
    Ok(())
}

/// The number of a quoted name. Names that are not known are passed over, like fields that are not.
fn enum_number(values: &Enum, quoted: &str) -> Option<i32> {
    let name = unquote(quoted)?;
    values.values.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// What a string in quotes says, if it is one and that is Unicode.
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str(value).ok().map(Cow::Owned),
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let one_line: Cow<'_, str> = match text.contains(['\r', '\n']) {
        false => text.into(),
        true => text.replace(['\r', '\n'], "").into(),
    };
    let [padded, unpadded] = if text.contains(['-', '_']) { &URL } else { &PLAIN };
    // Line breaks count here, and are passed over only then.
    let engine = if text.len().is_multiple_of(4) { padded } else { unpadded };
    engine.decode(one_line.as_bytes()).ok()
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(_) => "message",
    }
}

/// Where `piece` begins in the text that it is a piece of.
fn position_of(piece: &str, text: &str) -> String {
    let before = &text[..piece.as_ptr().addr() - text.as_ptr().addr()];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    format!("(line {line}:{})", before[line_start..].chars().count() + 1)
}

fn shorten(value: &str) -> String {
    match value.char_indices().find(|&(at, _)| at >= SHOWN_BYTES_MAX) {
        Some((at, _)) => format!("{}...", &value[..at]),
        None => value.to_owned(),
    }
}
