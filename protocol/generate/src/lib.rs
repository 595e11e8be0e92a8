//! The generator of messages: Kafka's JSON schemas in, formatted Rust out.
//!
//! Takes the jars of one Kafka release, which carry the schemas. Gives the files of `protocol/src/messages` and
//! `protocol/src/internal`. Refuses a schema that it does not understand completely, because a field that is silently
//! left out would be found by a user. Sentences of the schemas are not carried over.

mod codec;
mod error;
mod jars;
mod layout;
pub mod sample;
pub mod schema;
mod tables;
pub mod versions;

pub use error::GenerateError;
pub use jars::{Release, load};

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Generated files: path below `protocol/src` and content.
pub type Files = BTreeMap<PathBuf, String>;

/// The folders below `protocol/src` that belong to the generator entirely.
pub const FOLDERS: [&str; 2] = ["messages", "internal"];

/// Makes all files from the schemas in `sources` (jars, or folders with jars).
///
/// # Errors
/// When a source cannot be read, a schema is not understood, or `rustfmt` is missing.
pub fn generate(sources: &[PathBuf]) -> Result<Files, GenerateError> {
    let release = load(sources)?;
    let mut files = Files::new();
    for message in &release.messages {
        let folder = layout::folder(message);
        let path = Path::new(folder).join(format!("{}.rs", schema::snake_case(&message.name)));
        files.insert(path, codec::file(message, &release)?);
    }
    tables::add(&release, &mut files);
    format(files)
}

/// Replaces the generator's folders below `out` by `files`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(files: &Files, out: &Path) -> Result<(), GenerateError> {
    for folder in FOLDERS {
        let folder = out.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| GenerateError::Io(folder.clone(), error))?;
        }
        fs::create_dir_all(&folder).map_err(|error| GenerateError::Io(folder.clone(), error))?;
    }
    for (path, text) in files {
        let path = out.join(path);
        fs::write(&path, text).map_err(|error| GenerateError::Io(path.clone(), error))?;
    }
    Ok(())
}

/// Runs rustfmt over everything at once, in a folder of its own.
fn format(files: Files) -> Result<Files, GenerateError> {
    let folder = tempfile::tempdir().map_err(|error| GenerateError::Io(std::env::temp_dir(), error))?;
    write(&files, folder.path())?;
    // A `mod.rs` makes rustfmt follow its modules: one call for each folder formats everything once.
    for name in FOLDERS {
        let output = Command::new("rustfmt")
            .args([
                "--edition",
                "2024",
                "--config",
                "max_width=120,use_field_init_shorthand=true",
            ])
            .arg(folder.path().join(name).join("mod.rs"))
            .output()
            .map_err(|error| GenerateError::Io(PathBuf::from("rustfmt"), error))?;
        if !output.status.success() {
            return Err(GenerateError::Rustfmt(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
    }
    let mut formatted = Files::new();
    for path in files.into_keys() {
        let full = folder.path().join(&path);
        let text = fs::read_to_string(&full).map_err(|error| GenerateError::Io(full, error))?;
        formatted.insert(path, text);
    }
    Ok(formatted)
}
