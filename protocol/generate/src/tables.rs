//! The files that are not one message: module lists, the table of APIs, the enums of stored records.

use crate::codec::generated_note;
use crate::schema::{Kind, Message, snake_case};
use crate::{Files, Release, layout};
use std::fmt::Write;

/// Decoders start from the defaults and fill in what the version has: shorter than naming each default twice.
const ALLOW: &str = "#![allow(clippy::field_reassign_with_default)]\n\n";

/// Adds them.
pub fn add(release: &Release, files: &mut Files) {
    let note = generated_note(&release.version);
    let all = |folder: &'static str| release.messages.iter().filter(move |m| layout::folder(m) == folder);

    let mut text =
        "//! Requests, responses, headers, and what consumers write for each other: one module each.\n".to_owned();
    text.push_str(&note);
    text.push_str(ALLOW);
    text.push_str("mod api_key;\n");
    modules(&mut text, all("messages"));
    text.push_str(
        "pub(crate) use api_key::row;\npub use api_key::ApiKey;\n\nuse crate::catalog::{MessageInfo, entry};\n",
    );
    catalog(&mut text, all("messages"));
    files.insert("messages/mod.rs".into(), text);
    files.insert("messages/api_key.rs".into(), api_keys(release, &note));

    let mut text =
        "//! What brokers store: records of the metadata log and of the coordinators' topics, and small files.\n"
            .to_owned();
    text.push_str(&note);
    text.push_str(ALLOW);
    text.push_str("pub mod groups;\npub mod metadata;\npub mod transactions;\n");
    modules(&mut text, all("internal"));
    text.push_str("use crate::catalog::{MessageInfo, entry};\n");
    catalog(&mut text, all("internal"));
    files.insert("internal/mod.rs".into(), text);

    let metadata: Vec<_> = all("internal").filter(|m| m.kind == Kind::Metadata).collect();
    files.insert("internal/metadata.rs".into(), metadata_records(&metadata, &note));
    let of_coordinator = |kind: Kind, transactions: bool| {
        all("internal")
            .filter(move |m| m.kind == kind && m.name.starts_with("TransactionLog") == transactions)
            .collect::<Vec<_>>()
    };
    for (name, topic, transactions) in [
        ("groups", "__consumer_offsets", false),
        ("transactions", "__transaction_state", true),
    ] {
        let keys = of_coordinator(Kind::CoordinatorKey, transactions);
        let values = of_coordinator(Kind::CoordinatorValue, transactions);
        files.insert(
            format!("internal/{name}.rs").into(),
            coordinator_records(topic, &keys, &values, &note),
        );
    }
}

fn modules<'m>(out: &mut String, messages: impl Iterator<Item = &'m Message>) {
    let names: Vec<_> = messages
        .map(|message| (snake_case(&message.name), &message.name))
        .collect();
    for (module, _) in &names {
        let _ = writeln!(out, "pub mod {module};");
    }
    out.push('\n');
    for (module, name) in &names {
        let _ = writeln!(out, "pub use {module}::{name};");
    }
}

fn catalog<'m>(out: &mut String, messages: impl Iterator<Item = &'m Message>) {
    out.push_str("\n/// Every message of this module, by name.\npub static CATALOG: &[MessageInfo] = &[\n");
    for message in messages {
        let key = message.api_key.map_or("None".to_owned(), |key| format!("Some({key})"));
        let _ = writeln!(out, "entry!({}, {key}),", message.name);
    }
    out.push_str("];\n");
}

fn api_keys(release: &Release, note: &str) -> String {
    let kind = |kind: Kind| release.messages.iter().filter(move |message| message.kind == kind);
    let mut requests: Vec<&Message> = kind(Kind::Request).collect();
    requests.sort_by_key(|message| message.api_key);
    let mut out = "//! The numbers of the APIs, and their versions.\n".to_owned();
    out.push_str(note);
    out.push_str("use crate::api_key::ApiRow;\n\n");
    out.push_str(
        "/// An API of the Kafka protocol: a request and its response.\n\
         ///\n/// APIs that this release of Kafka no longer has (4 to 7) are not listed.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {\n",
    );
    let base = |message: &Message| message.name.trim_end_matches("Request").to_owned();
    let key = |message: &Message| message.api_key.unwrap_or(-1);
    for request in &requests {
        let _ = writeln!(out, "/// `{}`: {}.", base(request), layout::versions_doc(request));
        let _ = writeln!(out, "{} = {},", base(request), key(request));
    }
    out.push_str("}\n\nimpl ApiKey {\n/// All of them, by rising number.\npub const ALL: &'static [ApiKey] = &[\n");
    for request in &requests {
        let _ = writeln!(out, "ApiKey::{},", base(request));
    }
    out.push_str("];\n\n/// The API with this number; `None` when Kafka has none.\n#[must_use]\n");
    out.push_str("pub const fn from_code(code: i16) -> Option<ApiKey> {\nSome(match code {\n");
    for request in &requests {
        let _ = writeln!(out, "{} => ApiKey::{},", key(request), base(request));
    }
    out.push_str("_ => return None,\n})\n}\n}\n\n/// The facts about an API.\npub(crate) const fn row(key: ApiKey) -> ApiRow {\nmatch key {\n");
    for request in &requests {
        let response = kind(Kind::Response).find(|response| response.api_key == request.api_key);
        let flexible = |message: &Message| {
            if message.flexible.is_empty() {
                i16::MAX
            } else {
                message.flexible.first
            }
        };
        let _ = writeln!(
            out,
            "ApiKey::{} => ApiRow {{ name: {:?}, min: {}, max: {}, last: {}, flexible_request: {}, \
             flexible_response: {}, broker: {}, controller: {} }},",
            base(request),
            base(request),
            request.valid.first,
            request.last_stable(),
            request.valid.last,
            flexible(request),
            response.map_or(i16::MAX, flexible),
            request.listeners.iter().any(|listener| listener == "broker"),
            request.listeners.iter().any(|listener| listener == "controller"),
        );
    }
    out.push_str("}\n}\n");
    // `i16::MAX` reads better than its number.
    out.replace("32767", "i16::MAX")
}

/// The enum of one family of records: variants, and the lines of a `match` for each.
struct Family<'m> {
    messages: &'m [&'m Message],
    suffix: &'static str,
}

impl Family<'_> {
    fn variants(&self) -> impl Iterator<Item = (String, &Message)> {
        self.messages
            .iter()
            .map(|message| (message.name.trim_end_matches(self.suffix).to_owned(), *message))
    }

    fn define(&self, out: &mut String, name: &str, doc: &str) {
        let _ = writeln!(
            out,
            "/// {doc}\n#[derive(Debug, Clone, PartialEq)]\n#[expect(missing_docs, reason = \"each variant is the record of its name\")]"
        );
        let _ = writeln!(out, "#[allow(clippy::large_enum_variant)]\npub enum {name}<'a> {{");
        for (variant, message) in self.variants() {
            let _ = writeln!(
                out,
                "{variant}({}{}),",
                message.name,
                layout::lifetime(message, &message.structs[0])
            );
        }
        out.push_str("}\n\n");
    }

    /// `Enum::Variant(record) => TEMPLATE` for each variant; `NAME` in the template is the record's type.
    fn arms(&self, out: &mut String, name: &str, template: &str) {
        for (variant, message) in self.variants() {
            let _ = writeln!(
                out,
                "{name}::{variant}({}) => {},",
                if template.contains("record") { "record" } else { "_" },
                template.replace("NAME", &message.name)
            );
        }
    }

    /// `key => Enum::Variant(decoded)` for each variant.
    fn decode_arms(&self, out: &mut String, name: &str) {
        for (variant, message) in self.variants() {
            let _ = writeln!(
                out,
                "{}::API_KEY => {name}::{variant}({}::decode(&mut reader, version)?),",
                message.name, message.name
            );
        }
    }

    fn conversions(&self, out: &mut String, name: &str) {
        for (variant, message) in self.variants() {
            let of = format!("{}{}", message.name, layout::lifetime(message, &message.structs[0]));
            let _ = writeln!(
                out,
                "impl<'a> From<{of}> for {name}<'a> {{\nfn from(record: {of}) -> Self {{\n{name}::{variant}(record)\n}}\n}}\n"
            );
        }
    }

    fn names(&self) -> String {
        self.messages
            .iter()
            .map(|message| message.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

fn metadata_records(messages: &[&Message], note: &str) -> String {
    let family = Family {
        messages,
        suffix: "Record",
    };
    let mut out = "//! The records of the metadata log, in the frame that KRaft puts around each.\n".to_owned();
    out.push_str(note);
    let _ = writeln!(out, "use super::{{{}}};", family.names());
    out.push_str(
        "use crate::Message;\nuse crate::wire::{AtField, DecodeError, EncodeError, Place, Reader, WireError, Writer};\n\n\
         /// The version of the frame: three unsigned varints (this version, type, version) and the record.\n\
         pub const FRAME_VERSION: u32 = 1;\n\nconst AT: Place = Place::new(\"MetadataRecord\", \"\");\n\n",
    );
    family.define(&mut out, "MetadataRecord", "A record of the metadata log.");
    out.push_str("impl MetadataRecord<'_> {\n/// The number of the record's type.\n#[must_use]\npub fn api_key(&self) -> i16 {\nmatch self {\n");
    family.arms(&mut out, "MetadataRecord", "NAME::API_KEY");
    out.push_str("}\n}\n\n/// The last stable version of the record's type.\n#[must_use]\npub fn max_version(&self) -> i16 {\nmatch self {\n");
    family.arms(&mut out, "MetadataRecord", "NAME::MAX_VERSION");
    out.push_str("}\n}\n}\n\n");
    out.push_str(
        "/// Writes a record in its frame, as the value of a record in a batch.\n///\n/// # Errors\n\
         /// When the version is unknown or cannot carry what the record says.\n\
         pub fn encode(record: &MetadataRecord<'_>, version: i16) -> Result<Vec<u8>, EncodeError> {\n\
         let mut w = Writer::new();\nw.unsigned_varint(FRAME_VERSION);\n\
         w.unsigned_varint(u32::from(record.api_key().cast_unsigned()));\n\
         w.unsigned_varint(u32::from(version.cast_unsigned()));\nmatch record {\n",
    );
    family.arms(&mut out, "MetadataRecord", "record.encode(&mut w, version)");
    out.push_str(
        "}\nw.into_vec()\n}\n\n/// Reads a record in its frame, and its version.\n///\n/// # Errors\n\
         /// When the frame, the type or the version is unknown, or the record is malformed.\n\
         pub fn decode(bytes: &[u8]) -> Result<(MetadataRecord<'_>, i16), DecodeError> {\n\
         let mut reader = Reader::new(bytes);\n\
         let frame = reader.unsigned_varint().at(AT, \"frame_version\")?;\n\
         if frame != FRAME_VERSION {\nreturn Err(WireError::UnknownType { kind: frame }).at(AT, \"frame_version\");\n}\n\
         let kind = reader.unsigned_varint().at(AT, \"api_key\")?;\n\
         let version = reader.unsigned_varint().at(AT, \"version\")?;\n\
         let unknown = WireError::UnknownType { kind };\n\
         let version = i16::try_from(version).map_err(|_| WireError::UnknownType { kind: version }).at(AT, \"version\")?;\n\
         let record = match i16::try_from(kind).map_err(|_| unknown).at(AT, \"api_key\")? {\n",
    );
    family.decode_arms(&mut out, "MetadataRecord");
    out.push_str("_ => return Err(unknown).at(AT, \"api_key\"),\n};\nreader.finish().at(AT, \"end\")?;\nOk((record, version))\n}\n\n");
    family.conversions(&mut out, "MetadataRecord");
    out
}

fn coordinator_records(topic: &str, keys: &[&Message], values: &[&Message], note: &str) -> String {
    let mut out = format!("//! The keys and values in `{topic}`: a number of two bytes, then the record.\n//!\n");
    out.push_str("//! The number before a key is its type; the number before a value is the value's version.\n");
    out.push_str(note);
    let (keys, values) = (
        Family {
            messages: keys,
            suffix: "Key",
        },
        Family {
            messages: values,
            suffix: "Value",
        },
    );
    let _ = writeln!(out, "use super::{{{}, {}}};", keys.names(), values.names());
    out.push_str(
        "use crate::Message;\nuse crate::wire::{AtField, DecodeError, EncodeError, Place, Reader, WireError, Writer};\n\n\
         const KEY: Place = Place::new(\"Key\", \"\");\nconst VALUE: Place = Place::new(\"Value\", \"\");\n\n",
    );
    keys.define(&mut out, "Key", &format!("A key in `{topic}`."));
    values.define(&mut out, "Value", &format!("A value in `{topic}`."));
    out.push_str("impl<'a> Key<'a> {\n/// The number of the key's type, which is also that of its value.\n#[must_use]\npub fn api_key(&self) -> i16 {\nmatch self {\n");
    keys.arms(&mut out, "Key", "NAME::API_KEY");
    out.push_str(
        "}\n}\n\n/// Writes the key with its number.\n///\n/// # Errors\n/// When a string is too long.\n\
         pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {\nlet mut w = Writer::new();\nw.i16(self.api_key());\nmatch self {\n",
    );
    keys.arms(&mut out, "Key", "record.encode(&mut w, 0)");
    out.push_str(
        "}\nw.into_vec()\n}\n\n/// Reads a key behind its number.\n///\n/// # Errors\n\
         /// When the number is unknown or the key malformed.\n\
         pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {\n\
         let mut reader = Reader::new(bytes);\nlet version = 0;\n\
         let kind = reader.i16().at(KEY, \"type\")?;\nlet key = match kind {\n",
    );
    keys.decode_arms(&mut out, "Key");
    out.push_str(
        "_ => {\nlet kind = u32::from(kind.cast_unsigned());\nreturn Err(WireError::UnknownType { kind }).at(KEY, \"type\");\n}\n};\n\
         reader.finish().at(KEY, \"end\")?;\nOk(key)\n}\n}\n\n\
         impl<'a> Value<'a> {\n/// Writes the value with its version.\n///\n/// # Errors\n\
         /// When the version is unknown or cannot carry what the value says.\n\
         pub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {\n\
         let mut w = Writer::new();\nw.i16(version);\nmatch self {\n",
    );
    values.arms(&mut out, "Value", "record.encode(&mut w, version)");
    out.push_str(
        "}\nw.into_vec()\n}\n\n/// Reads the value that belongs to a key of type `api_key`, and its version.\n///\n/// # Errors\n\
         /// When the type or the version is unknown or the value malformed.\n\
         pub fn decode(api_key: i16, bytes: &'a [u8]) -> Result<(Self, i16), DecodeError> {\n\
         let mut reader = Reader::new(bytes);\nlet version = reader.i16().at(VALUE, \"version\")?;\n\
         let value = match api_key {\n",
    );
    values.decode_arms(&mut out, "Value");
    out.push_str(
        "_ => {\nlet kind = u32::from(api_key.cast_unsigned());\nreturn Err(WireError::UnknownType { kind }).at(VALUE, \"type\");\n}\n};\n\
         reader.finish().at(VALUE, \"end\")?;\nOk((value, version))\n}\n}\n\n",
    );
    keys.conversions(&mut out, "Key");
    values.conversions(&mut out, "Value");
    out
}
