//! How a schema's types look in Rust and how small they can be on the wire.

use crate::schema::{Default, Field, Fixed, Kind, Message, Struct, Type, struct_name};
use crate::versions::Versions;

/// The folder below `protocol/src` for a message: what crosses a connection between clients, or what is stored.
#[must_use]
pub fn folder(message: &Message) -> &'static str {
    match message.kind {
        Kind::Request | Kind::Response | Kind::Header => "messages",
        // The bodies inside JoinGroup and SyncGroup, which consumers write for each other.
        Kind::Data if message.name.starts_with("ConsumerProtocol") => "messages",
        _ => "internal",
    }
}

/// The Rust name of a fixed-width type; also the name of the reader's and writer's function for it, in lower case.
#[must_use]
pub fn fixed_name(of: Fixed) -> &'static str {
    match of {
        Fixed::Bool => "bool",
        Fixed::Int8 => "i8",
        Fixed::Int16 => "i16",
        Fixed::Uint16 => "u16",
        Fixed::Int32 => "i32",
        Fixed::Uint32 => "u32",
        Fixed::Int64 => "i64",
        Fixed::Float64 => "f64",
        Fixed::Uuid => "Uuid",
    }
}

fn fixed_size(of: Fixed) -> usize {
    match of {
        Fixed::Bool | Fixed::Int8 => 1,
        Fixed::Int16 | Fixed::Uint16 => 2,
        Fixed::Int32 | Fixed::Uint32 => 4,
        Fixed::Int64 | Fixed::Float64 => 8,
        Fixed::Uuid => 16,
    }
}

/// True when the struct has a lifetime: when it holds text, bytes or records, directly or inside another struct.
#[must_use]
pub fn borrows(message: &Message, of: &Struct) -> bool {
    of.fields.iter().any(|field| type_borrows(message, &field.of))
}

fn type_borrows(message: &Message, of: &Type) -> bool {
    match of {
        Type::Fixed(_) => false,
        Type::Str | Type::Bytes | Type::Records => true,
        Type::Struct(name) => borrows(message, message.get(name)),
        Type::Array(element) => type_borrows(message, element),
    }
}

/// `<'a>` for a struct with a lifetime, nothing otherwise.
#[must_use]
pub fn lifetime(message: &Message, of: &Struct) -> &'static str {
    if borrows(message, of) { "<'a>" } else { "" }
}

/// The Rust type of a field.
#[must_use]
pub fn field_type(message: &Message, field: &Field) -> String {
    let of = plain_type(message, &field.of);
    if field.nullable.is_empty() || field.of == Type::Records {
        of
    } else {
        format!("Option<{of}>")
    }
}

fn plain_type(message: &Message, of: &Type) -> String {
    match of {
        Type::Fixed(fixed) => fixed_name(*fixed).into(),
        Type::Str => "&'a str".into(),
        Type::Bytes => "&'a [u8]".into(),
        Type::Records => "Records<'a>".into(),
        Type::Struct(name) => format!("{name}{}", lifetime(message, message.get(name))),
        Type::Array(element) => format!("Vec<{}>", plain_type(message, element)),
    }
}

/// The default of a field as Rust, and whether `Default::default()` of its Rust type says the same.
#[must_use]
pub fn default_value(field: &Field) -> (String, bool) {
    let nullable = !field.nullable.is_empty();
    let some = |inner: &str| {
        (
            if nullable {
                format!("Some({inner})")
            } else {
                inner.to_owned()
            },
            !nullable,
        )
    };
    match (&field.default, &field.of) {
        (Default::Null, Type::Records) => ("Records::Null".into(), true),
        (Default::Null, _) => ("None".into(), true),
        (Default::Number(number), _) => (number.clone(), false),
        (Default::True, _) => ("true".into(), false),
        (Default::Text(text), _) => (some(&format!("{text:?}")).0, false),
        (Default::Zero, Type::Records) => ("Records::EMPTY".into(), false),
        (Default::Zero, Type::Fixed(Fixed::Bool)) => ("false".into(), true),
        (Default::Zero, Type::Fixed(Fixed::Float64)) => ("0.0".into(), true),
        (Default::Zero, Type::Fixed(Fixed::Uuid)) => ("Uuid::ZERO".into(), true),
        (Default::Zero, Type::Fixed(_)) => ("0".into(), true),
        (Default::Zero, Type::Str) => some("\"\""),
        (Default::Zero, Type::Bytes) => some("&[]"),
        (Default::Zero, Type::Array(_)) => some("Vec::new()"),
        (Default::Zero, Type::Struct(name)) => some(&format!("{name}::default()")),
    }
}

/// A Rust condition that is true when the field of `self` is not its default.
#[must_use]
pub fn differs_from_default(field: &Field) -> String {
    let value = format!("self.{}", field.rust);
    let nullable = !field.nullable.is_empty();
    match (&field.default, &field.of) {
        (Default::Null, Type::Records) => format!("!{value}.is_null()"),
        (Default::Null, _) => format!("{value}.is_some()"),
        (Default::True, _) => format!("!{value}"),
        (Default::Zero, Type::Fixed(Fixed::Bool)) => value,
        (Default::Zero, Type::Records) => format!("!{value}.is_empty()"),
        (Default::Zero, Type::Str | Type::Bytes | Type::Array(_)) if nullable => {
            format!("{value}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Default::Zero, Type::Str | Type::Bytes | Type::Array(_)) => format!("!{value}.is_empty()"),
        _ => format!("{value} != {}", default_value(field).0),
    }
}

/// The fewest bytes that an element of an array can take in one version.
#[must_use]
pub fn min_size(message: &Message, of: &Type, version: i16) -> usize {
    let flexible = message.flexible.contains(version);
    match of {
        Type::Fixed(fixed) => fixed_size(*fixed),
        Type::Str if flexible => 1,
        Type::Str => 2,
        Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
        Type::Bytes | Type::Records | Type::Array(_) => 4,
        Type::Struct(name) => {
            let plain = message
                .get(name)
                .fields
                .iter()
                .filter(|f| f.tag.is_none() && f.versions.contains(version));
            let sizes = plain.map(|field| match &field.of {
                Type::Struct(_) if !field.nullable.is_empty() => 1,
                Type::Str if flexible && !field.follows_flexible => 2,
                of => min_size(message, of, version),
            });
            sizes.sum::<usize>() + usize::from(flexible)
        }
    }
}

/// The smallest size of an array's element as a Rust expression of `version`.
///
/// # Errors
/// When an element could take no bytes at all: no count could be refused then.
pub fn element_min(message: &Message, field: &Field, element: &Type) -> Result<String, String> {
    let sizes: Vec<(i16, usize)> = (field.versions.first..=field.versions.last.min(message.valid.last))
        .map(|version| (version, min_size(message, element, version)))
        .collect();
    if sizes.iter().any(|(_, size)| *size == 0) {
        return Err(format!("elements of {} can be empty", field.name));
    }
    let mut runs: Vec<(i16, usize)> = Vec::new();
    for (version, size) in sizes {
        match runs.last_mut() {
            Some((last, same)) if *same == size => *last = version,
            _ => runs.push((version, size)),
        }
    }
    Ok(match runs.as_slice() {
        [(_, size)] => size.to_string(),
        [(last, early), (_, late)] => format!("if version <= {last} {{ {early} }} else {{ {late} }}"),
        [early @ .., (_, late)] => {
            let mut first = message.valid.first;
            let mut arms = String::new();
            for (last, size) in early {
                let versions = if first == *last {
                    first.to_string()
                } else {
                    format!("{first}..={last}")
                };
                arms.push_str(&format!("{versions} => {size}, "));
                first = last + 1;
            }
            format!("match version {{ {arms} _ => {late} }}")
        }
        [] => "1".into(),
    })
}

/// One line of documentation for a field, made of facts only.
#[must_use]
pub fn field_doc(message: &Message, of: &Struct, field: &Field) -> String {
    let mut text = format!("Field `{}`", field.name);
    if field.versions != of.versions || of.versions != message.valid {
        text.push_str(&format!(", {}", field.versions.words(message.valid)));
    }
    if let Some((tag, _)) = field.tag {
        text.push_str(&format!(", tag {tag}"));
    }
    if field.nullable == field.versions {
        text.push_str(", may be null");
    } else if !field.nullable.is_empty() {
        text.push_str(&format!(", may be null in {}", field.nullable.words(message.valid)));
    }
    let default = default_value(field).0;
    match &field.default {
        Default::Zero => {}
        _ if struct_name(&field.of).is_some() || field.of == Type::Records => text.push_str("; null by default"),
        Default::Null => text.push_str("; null by default"),
        _ => text.push_str(&format!("; {default} by default")),
    }
    if field.versions != of.versions && !field.ignorable {
        text.push_str("; other versions refuse any other value");
    }
    text.push('.');
    text
}

/// `versions 0-13, flexible from 9` for documentation.
#[must_use]
pub fn versions_doc(message: &Message) -> String {
    let valid = message.valid;
    let range = if valid.first == valid.last {
        format!("version {}", valid.first)
    } else {
        format!("versions {}-{}", valid.first, valid.last)
    };
    let flexible = match message.flexible {
        Versions::NONE => ", never flexible".to_owned(),
        flexible if flexible == valid => ", always flexible".to_owned(),
        flexible => format!(", flexible from {}", flexible.first),
    };
    let unstable = if message.last_unstable {
        format!(", {} not stable yet", valid.last)
    } else {
        String::new()
    };
    format!("{range}{flexible}{unstable}")
}
