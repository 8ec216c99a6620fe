//! Writes the tables of `api::schema`: every method, and the messages that methods take and give.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// The Rust source of the tables.
pub(crate) fn tables(files: &FileDescriptorSet) -> String {
    let mut types = Types::default();
    for file in &files.file {
        let package = format!(".{}", file.package());
        file.message_type.iter().for_each(|message| types.add_message(&package, message));
        file.enum_type.iter().for_each(|values| types.add_enum(&package, values));
    }
    let mut tables = Tables { types, pending: Vec::new(), written: BTreeSet::new(), source: String::new() };
    tables.write_methods(files);
    while let Some(name) = tables.pending.pop() {
        tables.write_type(&name);
    }
    tables.source
}

/// Types by full name, which begins with a dot.
#[derive(Default)]
struct Types<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Types<'a> {
    fn add_message(&mut self, scope: &str, message: &'a DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add_message(&name, nested));
        message.enum_type.iter().for_each(|nested| self.add_enum(&name, nested));
        self.messages.insert(name, message);
    }

    fn add_enum(&mut self, scope: &str, values: &'a EnumDescriptorProto) {
        self.enums.insert(format!("{scope}.{}", values.name()), values);
    }
}

struct Tables<'a> {
    types: Types<'a>,
    /// Types that are referred to and may not be written yet.
    pending: Vec<String>,
    written: BTreeSet<String>,
    source: String,
}

impl Tables<'_> {
    fn write_methods(&mut self, files: &FileDescriptorSet) {
        let mut rows = String::new();
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let (input, output) = (self.refer(method.input_type()), self.refer(method.output_type()));
                    let (client, server) = (method.client_streaming(), method.server_streaming());
                    add(
                        &mut rows,
                        format_args!(
                            "    Method {{ path: {path:?}, input: {input}, output: {output}, client_streaming: {client}, server_streaming: {server} }},\n"
                        ),
                    );
                }
            }
        }
        add(&mut self.source, format_args!("pub static METHODS: &[Method] = &[\n{rows}];\n"));
    }

    fn write_type(&mut self, name: &str) {
        if !self.written.insert(name.to_owned()) {
            return;
        }
        let table = match self.types.messages.get(name) {
            Some(&message) => self.message(name, message),
            None => {
                let values = self.types.enums[name]
                    .value
                    .iter()
                    .map(|value| format!("({:?}, {})", value.name(), value.number()));
                let values = values.collect::<Vec<_>>().join(", ");
                format!("static {}: Enum = Enum {{ values: &[{values}] }};\n", identifier(name))
            }
        };
        self.source.push_str(&table);
    }

    fn message(&mut self, name: &str, message: &DescriptorProto) -> String {
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|field| field.number());
        let fields: String = fields.into_iter().map(|field| self.field(field)).collect();
        let unions = message.oneof_decl.iter().map(|union| format!("{:?}", camel_case(union.name())));
        let unions = unions.collect::<Vec<_>>().join(", ");
        let identifier = identifier(name);
        format!(
            "static {identifier}: Message = Message {{ name: {:?}, unions: &[{unions}], fields: &[\n{fields}] }};\n",
            &name[1..]
        )
    }

    fn field(&mut self, field: &FieldDescriptorProto) -> String {
        let kind = match field.r#type() {
            Type::Bool => "Kind::Bool".into(),
            Type::Int32 => "Kind::Int32".into(),
            Type::Int64 => "Kind::Int64".into(),
            Type::Uint32 => "Kind::Uint32".into(),
            Type::Uint64 => "Kind::Uint64".into(),
            Type::String => "Kind::String".into(),
            Type::Bytes => "Kind::Bytes".into(),
            Type::Enum => format!("Kind::Enum({})", self.refer(field.type_name())),
            Type::Message => format!("Kind::Message({})", self.refer(field.type_name())),
            other => panic!("fields of type {} are not provided for", other.as_str_name()),
        };
        let (name, json_name, number) = (field.name(), field.json_name(), field.number());
        assert!(!json_name.is_empty(), "the compiler fills in JSON names");
        let repeated = field.label() == Label::Repeated;
        let union = field.oneof_index;
        format!(
            "    Field {{ name: {name:?}, json_name: {json_name:?}, number: {number}, repeated: {repeated}, union: {union:?}, kind: {kind} }},\n"
        )
    }

    /// The expression for a type, which is written later.
    fn refer(&mut self, name: &str) -> String {
        self.pending.push(name.to_owned());
        format!("&{}", identifier(name))
    }
}

fn identifier(name: &str) -> String {
    name[1..].replace('.', "_").to_uppercase()
}

/// `target_union` as `TargetUnion`.
fn camel_case(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn add(source: &mut String, text: std::fmt::Arguments<'_>) {
    source.write_fmt(text).expect("writing to a string does not fail");
}
