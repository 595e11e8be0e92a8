//! The model of a schema: what a message, a struct and a field are, after all rules of the schema language are
//! applied (ranges cut to what is valid, types resolved, defaults decided).

use crate::error::GenerateError;
use crate::versions::Versions;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A message with at least one valid version.
#[derive(Debug, Clone)]
pub struct Message {
    /// Name as in the schema.
    pub name: String,
    /// What the message is.
    pub kind: Kind,
    /// Number of the API or of the record type.
    pub api_key: Option<i16>,
    /// Listeners that serve the request.
    pub listeners: Vec<String>,
    /// All versions that the codec knows.
    pub valid: Versions,
    /// Versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// True when the last version may still change.
    pub last_unstable: bool,
    /// The message itself first, then its structs in the order of their first use.
    pub structs: Vec<Struct>,
}

/// Kinds of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A request of a client.
    Request,
    /// The answer to a request.
    Response,
    /// What stands before a request or response.
    Header,
    /// A record of the metadata log.
    Metadata,
    /// A key in a coordinator's topic.
    CoordinatorKey,
    /// A value in a coordinator's topic.
    CoordinatorValue,
    /// Anything else that is written somewhere.
    Data,
}

/// A struct of a message.
#[derive(Debug, Clone)]
pub struct Struct {
    /// Name as in the schema.
    pub name: String,
    /// Where it is used, as the start of a field's path: empty for the message itself, `topics.` otherwise.
    pub path: String,
    /// Versions in which it can appear.
    pub versions: Versions,
    /// Fields in schema order.
    pub fields: Vec<Field>,
}

/// A field of a struct.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name as in the schema.
    pub name: String,
    /// Name in Rust.
    pub rust: String,
    /// Type.
    pub of: Type,
    /// Versions that carry the field, cut to the versions of its struct.
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Versions,
    /// Tag and the versions in which the field is tagged.
    pub tag: Option<(u32, Versions)>,
    /// Whether a version without the field may silently drop its value.
    pub ignorable: bool,
    /// The default.
    pub default: Default,
    /// False for the one field whose strings keep the old length in flexible versions.
    pub follows_flexible: bool,
}

/// A type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A fixed-width value.
    Fixed(Fixed),
    /// A string.
    Str,
    /// Bytes.
    Bytes,
    /// Record batches.
    Records,
    /// A struct of the message.
    Struct(String),
    /// An array.
    Array(Box<Type>),
}

/// Fixed-width types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Fixed {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
}

/// Default values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Default {
    /// Zero, false, empty, or a struct of defaults.
    Zero,
    /// Null.
    Null,
    /// A number, as Rust writes it.
    Number(String),
    /// True.
    True,
    /// A non-empty string.
    Text(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMessage {
    api_key: Option<i16>,
    #[serde(rename = "type")]
    kind: Kind,
    name: String,
    valid_versions: String,
    flexible_versions: Option<String>,
    #[serde(default)]
    listeners: Vec<String>,
    #[serde(default)]
    latest_version_unstable: bool,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    common_structs: Vec<RawStruct>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawStruct {
    name: String,
    versions: String,
    fields: Vec<RawField>,
    #[serde(rename = "about")]
    _about: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawField {
    name: String,
    #[serde(rename = "type")]
    of: String,
    versions: Option<String>,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    flexible_versions: Option<String>,
    tag: Option<u32>,
    #[serde(default)]
    ignorable: bool,
    #[serde(default)]
    default: Value,
    fields: Option<Vec<RawField>>,
    #[serde(rename = "about")]
    _about: Option<String>,
    #[serde(rename = "entityType")]
    _entity_type: Option<String>,
    #[serde(rename = "mapKey")]
    _map_key: Option<bool>,
    #[serde(rename = "zeroCopy")]
    _zero_copy: Option<bool>,
}

/// Reads one schema; `None` when no version of it is valid any more.
///
/// # Errors
/// When it says something that is not understood.
pub fn parse(file: &str, text: &str) -> Result<Option<Message>, GenerateError> {
    let raw: RawMessage =
        serde_json::from_str(&without_comments(text)).map_err(|error| GenerateError::Json(file.to_owned(), error))?;
    let resolver = Resolver {
        file,
        common: raw.common_structs.iter().map(|s| (s.name.clone(), s)).collect(),
    };
    let valid = resolver.versions(Some(&raw.valid_versions), Versions::NONE)?;
    if valid.is_empty() {
        return Ok(None);
    }
    let mut message = Message {
        name: raw.name.clone(),
        kind: raw.kind,
        api_key: raw.api_key,
        listeners: raw.listeners.clone(),
        valid,
        flexible: resolver
            .versions(raw.flexible_versions.as_deref(), Versions::NONE)?
            .and(valid),
        last_unstable: raw.latest_version_unstable,
        structs: Vec::new(),
    };
    resolver.add_struct(&mut message, &raw.name, "", &raw.fields, valid)?;
    message
        .check()
        .map_err(|text| GenerateError::Schema(file.to_owned(), text))?;
    Ok(Some(message))
}

/// A response's last version is as unstable as its request's, though only the request says so.
pub(crate) fn share_stable_versions(messages: &mut [Message]) {
    let unstable: Vec<_> = messages.iter().filter(|m| m.last_unstable).map(|m| m.api_key).collect();
    for message in messages.iter_mut().filter(|m| m.kind == Kind::Response) {
        message.last_unstable |= unstable.contains(&message.api_key);
    }
}

/// Blanks `//` comments that are outside strings.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        let end = line.char_indices().find_map(|(at, c)| {
            if c == '"' && previous != '\\' {
                in_string = !in_string;
            }
            let comment = !in_string && c == '/' && previous == '/';
            previous = c;
            comment.then(|| at - 1)
        });
        out.push_str(&line[..end.unwrap_or(line.len())]);
        out.push('\n');
    }
    out
}

struct Resolver<'r> {
    file: &'r str,
    common: BTreeMap<String, &'r RawStruct>,
}

impl Resolver<'_> {
    fn refuse<T>(&self, text: String) -> Result<T, GenerateError> {
        Err(GenerateError::Schema(self.file.to_owned(), text))
    }

    fn versions(&self, text: Option<&str>, otherwise: Versions) -> Result<Versions, GenerateError> {
        match text {
            None => Ok(otherwise),
            Some(text) => Versions::parse(text).map_or_else(|| self.refuse(format!("versions {text:?}")), Ok),
        }
    }

    fn add_struct(
        &self,
        message: &mut Message,
        name: &str,
        path: &str,
        fields: &[RawField],
        versions: Versions,
    ) -> Result<(), GenerateError> {
        if message.structs.iter().any(|known| known.name == name) {
            return self.refuse(format!("struct {name} is defined twice"));
        }
        let at = message.structs.len();
        message.structs.push(Struct {
            name: name.to_owned(),
            path: path.to_owned(),
            versions,
            fields: Vec::new(),
        });
        for raw in fields {
            let Some(field) = self.field(raw, versions)? else {
                continue;
            };
            if let Some(inner) = struct_name(&field.of) {
                let inner_path = format!("{path}{}.", field.rust);
                if let Some(inner_fields) = &raw.fields {
                    self.add_struct(message, inner, &inner_path, inner_fields, field.versions)?;
                } else {
                    self.use_common(message, inner, &inner_path)?;
                }
            }
            message.structs[at].fields.push(field);
        }
        Ok(())
    }

    /// A struct that is used in several places has no one path: its own name starts the path then.
    fn use_common(&self, message: &mut Message, name: &str, path: &str) -> Result<(), GenerateError> {
        if let Some(known) = message.structs.iter_mut().find(|known| known.name == name) {
            known.path = format!("{}.", snake_case(name));
            return Ok(());
        }
        let Some(raw) = self.common.get(name) else {
            return self.refuse(format!("struct {name} is not defined"));
        };
        let versions = self.versions(Some(&raw.versions), Versions::NONE)?.and(message.valid);
        self.add_struct(message, name, path, &raw.fields, versions)
    }

    fn field(&self, raw: &RawField, within: Versions) -> Result<Option<Field>, GenerateError> {
        let tagged = self
            .versions(raw.tagged_versions.as_deref(), Versions::NONE)?
            .and(within);
        let declared = self.versions(raw.versions.as_deref(), tagged)?;
        let versions = declared.and(within);
        if versions.is_empty() {
            return Ok(None);
        }
        let of = self.type_of(&raw.of)?;
        let nullable = self
            .versions(raw.nullable_versions.as_deref(), Versions::NONE)?
            .and(versions);
        let tag = match (raw.tag, tagged == versions) {
            (None, _) => None,
            (Some(tag), true) => Some((tag, tagged)),
            // No schema has a field that is tagged in some versions and plain in others.
            (Some(_), false) => return self.refuse(format!("{} is tagged in some of its versions only", raw.name)),
        };
        let default = self.default(raw, &of, !nullable.is_empty())?;
        Ok(Some(Field {
            name: raw.name.clone(),
            rust: rust_name(&raw.name),
            of,
            versions,
            nullable,
            tag,
            ignorable: raw.ignorable,
            default,
            follows_flexible: raw.flexible_versions.as_deref() != Some("none"),
        }))
    }

    fn type_of(&self, text: &str) -> Result<Type, GenerateError> {
        if let Some(inner) = text.strip_prefix("[]") {
            return Ok(Type::Array(Box::new(self.type_of(inner)?)));
        }
        Ok(match text {
            "bool" => Type::Fixed(Fixed::Bool),
            "int8" => Type::Fixed(Fixed::Int8),
            "int16" => Type::Fixed(Fixed::Int16),
            "uint16" => Type::Fixed(Fixed::Uint16),
            "int32" => Type::Fixed(Fixed::Int32),
            "uint32" => Type::Fixed(Fixed::Uint32),
            "int64" => Type::Fixed(Fixed::Int64),
            "float64" => Type::Fixed(Fixed::Float64),
            "uuid" => Type::Fixed(Fixed::Uuid),
            "string" => Type::Str,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Type::Struct(name.to_owned()),
            other => return self.refuse(format!("type {other:?}")),
        })
    }

    fn default(&self, raw: &RawField, of: &Type, nullable: bool) -> Result<Default, GenerateError> {
        let text = match &raw.default {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let refused = || self.refuse(format!("default {text:?} of {}", raw.name));
        if *of == Type::Records && nullable {
            return Ok(Default::Null);
        }
        match (text.as_str(), of) {
            ("null", _) if nullable => Ok(Default::Null),
            ("", _) | ("false", Type::Fixed(Fixed::Bool)) => Ok(Default::Zero),
            ("true", Type::Fixed(Fixed::Bool)) => Ok(Default::True),
            (text, Type::Str) => Ok(Default::Text(text.to_owned())),
            (_, Type::Fixed(Fixed::Bool | Fixed::Uuid | Fixed::Float64)) => refused(),
            (text, Type::Fixed(_)) => {
                let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
                match i128::from_str_radix(digits, radix) {
                    Ok(0) => Ok(Default::Zero),
                    Ok(number) => Ok(Default::Number(number.to_string())),
                    Err(_) => refused(),
                }
            }
            _ => refused(),
        }
    }
}

/// The struct that a type names, directly or as the element of an array.
#[must_use]
pub fn struct_name(of: &Type) -> Option<&str> {
    match of {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        _ => None,
    }
}

impl Message {
    /// The struct with this name.
    ///
    /// # Panics
    /// Never for a name that a field of this message uses: [`parse`] resolves them all.
    #[must_use]
    pub fn get(&self, name: &str) -> &Struct {
        self.structs
            .iter()
            .find(|found| found.name == name)
            .unwrap_or(&self.structs[0])
    }

    /// The last version that a program should use.
    #[must_use]
    pub fn last_stable(&self) -> i16 {
        self.valid.last - i16::from(self.last_unstable)
    }

    /// Rules that the code relies on.
    fn check(&self) -> Result<(), String> {
        for field in self.structs.iter().flat_map(|s| &s.fields) {
            let partly = !field.nullable.is_empty() && field.nullable != field.versions;
            match &field.of {
                Type::Struct(_) if partly => return Err(format!("{} is a struct that is null sometimes", field.name)),
                Type::Array(element) if matches!(**element, Type::Array(_)) => {
                    return Err(format!("{} is an array of arrays", field.name));
                }
                Type::Fixed(_) if !field.nullable.is_empty() => return Err(format!("{} cannot be null", field.name)),
                _ => {}
            }
            if field.tag.is_some_and(|(tag, _)| tag > 100) {
                return Err(format!(
                    "the tag of {} is larger than a tag section allows for",
                    field.name
                ));
            }
        }
        Ok(())
    }
}

/// `LeaderEpoch` to `leader_epoch`, `KRaftVersion` to `kraft_version`.
#[must_use]
pub fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut out = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_small = at > 0 && !letters[at - 1].is_ascii_uppercase();
        let word_starts = at > 0 && letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && at > 0 && (after_small || word_starts) {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn rust_name(name: &str) -> String {
    let name = snake_case(name);
    match name.as_str() {
        "type" | "match" | "ref" | "move" | "use" | "where" | "in" | "loop" | "self" => format!("{name}_"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_field(field: &str) -> Result<Option<Message>, GenerateError> {
        parse(
            "Test.json",
            &format!(
                r#"// A comment.
                {{ "apiKey": 1, "type": "request", "name": "TestRequest", "validVersions": "0-3", // another
                   "flexibleVersions": "2+", "fields": [ {field} ] }}"#
            ),
        )
    }

    fn field(text: &str) -> Field {
        with_field(text).unwrap().unwrap().structs[0].fields[0].clone()
    }

    #[test]
    fn comments_are_blanked_outside_strings_only() {
        assert_eq!(without_comments("a // b"), "a \n");
        assert_eq!(without_comments(r#""http://x" // y"#), "\"http://x\" \n");
    }

    #[test]
    fn names_become_rust_names() {
        assert_eq!(snake_case("LeaderEpoch"), "leader_epoch");
        assert_eq!(snake_case("KRaftVersionRecord"), "kraft_version_record");
        assert_eq!(snake_case("V3AndBelowTopics"), "v3_and_below_topics");
        assert_eq!(rust_name("Type"), "type_");
    }

    #[test]
    fn a_field_is_cut_to_the_versions_of_its_struct() {
        let read = field(r#"{ "name": "A", "type": "string", "versions": "1+", "nullableVersions": "0-2" }"#);
        assert_eq!(read.versions, Versions { first: 1, last: 3 });
        assert_eq!(read.nullable, Versions { first: 1, last: 2 });
        let gone = with_field(r#"{ "name": "A", "type": "int8", "versions": "4+" }"#)
            .unwrap()
            .unwrap();
        assert!(gone.structs[0].fields.is_empty());
    }

    #[test]
    fn defaults_are_read_in_every_spelling() {
        let default = |of: &str, value: &str| {
            field(&format!(
                r#"{{ "name": "A", "type": "{of}", "versions": "0+", "default": {value} }}"#
            ))
            .default
        };
        assert_eq!(default("int32", "-1"), Default::Number("-1".into()));
        assert_eq!(default("int32", "\"0x7fffffff\""), Default::Number("2147483647".into()));
        assert_eq!(default("int64", "\"0\""), Default::Zero);
        assert_eq!(default("bool", "\"true\""), Default::True);
        assert_eq!(default("bool", "false"), Default::Zero);
        assert_eq!(default("string", "\"x\""), Default::Text("x".into()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, complaint) in [
            (r#"{ "name": "A", "type": "int7", "versions": "0+" }"#, "int7"),
            (r#"{ "name": "A", "type": "int8", "versions": "x" }"#, "versions"),
            (
                r#"{ "name": "A", "type": "int8", "versions": "0+", "colour": "red" }"#,
                "colour",
            ),
            (r#"{ "name": "A", "type": "Missing", "versions": "0+" }"#, "Missing"),
            (
                r#"{ "name": "A", "type": "int8", "versions": "0+", "nullableVersions": "0+" }"#,
                "null",
            ),
            (
                r#"{ "name": "A", "type": "int8", "versions": "0+", "tag": 0, "taggedVersions": "2+" }"#,
                "tagged",
            ),
            (
                r#"{ "name": "A", "type": "uuid", "versions": "0+", "default": "7" }"#,
                "default",
            ),
        ] {
            let error = with_field(text).unwrap_err().to_string();
            assert!(error.contains("Test.json") && error.contains(complaint), "{error}");
        }
    }
}
