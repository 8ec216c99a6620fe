//! The methods and messages of the API as data, for what translates them into another form without knowing each.
//!
//! The tables are written from the .proto files when the crate is built.

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// `/etcdserverpb.KV/Range`.
    pub path: &'static str,
    pub input: &'static Message,
    pub output: &'static Message,
    pub client_streaming: bool,
    pub server_streaming: bool,
}

/// A message type.
#[derive(Debug)]
pub struct Message {
    /// `etcdserverpb.RangeRequest`.
    pub name: &'static str,
    /// By rising number.
    pub fields: &'static [Field],
    /// Its unions (`oneof`), named as Go's generated code names them: `TargetUnion`.
    pub unions: &'static [&'static str],
}

#[derive(Debug)]
pub struct Field {
    /// As in the .proto file: `create_revision`.
    pub name: &'static str,
    /// In lowerCamelCase: `createRevision`.
    pub json_name: &'static str,
    pub number: u32,
    pub repeated: bool,
    /// The position of the union it belongs to. Of a union's fields one is set at most, and then even to a zero.
    pub union: Option<usize>,
    pub kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    String,
    Bytes,
    Enum(&'static Enum),
    Message(&'static Message),
}

#[derive(Debug)]
pub struct Enum {
    pub values: &'static [(&'static str, i32)],
}

impl Method {
    /// The method at a gRPC path.
    pub fn find(path: &str) -> Option<&'static Method> {
        METHODS.iter().find(|method| method.path == path)
    }
}

mod tables {
    use super::{Enum, Field, Kind, Message, Method};

    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}

pub use tables::METHODS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_say_what_the_files_say() {
        let watch = Method::find("/etcdserverpb.Watch/Watch").unwrap();
        assert!(watch.client_streaming && watch.server_streaming);
        assert_eq!((watch.input.name, watch.input.unions), ("etcdserverpb.WatchRequest", &["RequestUnion"][..]));
        let events = watch.output.fields.last().unwrap();
        assert_eq!((events.name, events.json_name, events.number, events.repeated), ("events", "events", 11, true));
        let txn = Method::find("/etcdserverpb.KV/Txn").unwrap().input;
        let Kind::Message(compare) = txn.fields[0].kind else { panic!("{:?}", txn.fields[0]) };
        let names: Vec<_> = compare.fields.iter().map(|field| (field.json_name, field.union)).collect();
        assert_eq!(
            names[4..],
            [
                ("createRevision", Some(0)),
                ("modRevision", Some(0)),
                ("value", Some(0)),
                ("lease", Some(0)),
                ("rangeEnd", None)
            ]
        );
        let Kind::Enum(target) = compare.fields[1].kind else { panic!("{:?}", compare.fields[1]) };
        assert_eq!(target.values[4], ("LEASE", 4));
    }
}
