//! The schemas of one Kafka release, read out of its jars.

use crate::error::GenerateError;
use crate::schema::{self, Message};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// All messages of one release that are of use here, sorted by name.
#[derive(Debug)]
pub struct Release {
    /// The version of Kafka, such as `4.4.0`.
    pub version: String,
    /// The messages that have at least one valid version.
    pub messages: Vec<Message>,
}

/// Jars whose schemas are read. Schemas of tiered storage and of the share coordinator's own state are left out.
const JARS: [&str; 6] = [
    "kafka-clients-",
    "kafka-metadata-",
    "kafka-group-coordinator-",
    "kafka-transaction-coordinator-",
    "kafka-storage-",
    "kafka-raft-",
];

/// Reads all schemas in `sources`: jars, or folders with jars.
///
/// # Errors
/// When a source cannot be read, when there is no `kafka-clients` jar, or when a schema is not understood.
pub fn load(sources: &[PathBuf]) -> Result<Release, GenerateError> {
    let mut version = None;
    let mut messages = Vec::new();
    for jar in jars(sources)? {
        let name = jar
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let Some(prefix) = JARS.iter().find(|prefix| has_version_after(&name, prefix)) else {
            continue;
        };
        if *prefix == "kafka-clients-" {
            version = Some(name.trim_start_matches(prefix).to_owned());
        }
        read_jar(&jar, &mut messages)?;
    }
    let version = version.ok_or(GenerateError::NoClientsJar)?;
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    schema::share_stable_versions(&mut messages);
    Ok(Release { version, messages })
}

/// True for `kafka-storage-4.4.0` and `kafka-storage-`, false for `kafka-storage-api-4.4.0`.
fn has_version_after(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn jars(sources: &[PathBuf]) -> Result<Vec<PathBuf>, GenerateError> {
    let mut found = Vec::new();
    for source in sources {
        if !source.is_dir() {
            found.push(source.clone());
            continue;
        }
        let entries = std::fs::read_dir(source).map_err(|error| GenerateError::Io(source.clone(), error))?;
        for entry in entries {
            let path = entry.map_err(|error| GenerateError::Io(source.clone(), error))?.path();
            if path.extension().is_some_and(|extension| extension == "jar") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read_jar(path: &Path, messages: &mut Vec<Message>) -> Result<(), GenerateError> {
    let file = File::open(path).map_err(|error| GenerateError::Io(path.to_owned(), error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| GenerateError::Jar(path.to_owned(), error))?;
    for index in 0..archive.len() {
        let mut entry = archive
            .by_index(index)
            .map_err(|error| GenerateError::Jar(path.to_owned(), error))?;
        let full_name = entry
            .name()
            .map_err(|error| GenerateError::Jar(path.to_owned(), error))?
            .into_owned();
        let Some((folder, name)) = full_name.rsplit_once('/') else {
            continue;
        };
        let wanted = matches!(folder, "common/message" | "common/metadata" | "message");
        if !wanted || !name.ends_with(".json") || name.starts_with("Remote") {
            continue;
        }
        let mut text = String::new();
        entry
            .read_to_string(&mut text)
            .map_err(|error| GenerateError::Io(path.to_owned(), error))?;
        messages.extend(schema::parse(name, &text)?);
    }
    Ok(())
}
