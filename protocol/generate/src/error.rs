//! What can go wrong while generating.

use std::path::PathBuf;

/// Why no files were made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A file or program could not be used.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] std::io::Error),
    /// A jar is not a readable archive.
    #[error("{}: {}", .0.display(), .1)]
    Jar(PathBuf, #[source] zip::result::ZipError),
    /// No `kafka-clients` jar is among the sources, so there is no release to generate from.
    #[error("no kafka-clients-<release>.jar among the sources; `make peers` fetches the jars")]
    NoClientsJar,
    /// A schema is not the JSON that was expected.
    #[error("schema {0}: {1}")]
    Json(String, #[source] serde_json::Error),
    /// A schema says something that the generator does not understand.
    #[error("schema {0}: {1}")]
    Schema(String, String),
    /// The files were made but are not Rust.
    #[error("rustfmt refuses the files: {0}")]
    Rustfmt(String),
}
