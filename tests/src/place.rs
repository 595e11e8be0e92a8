//! Where things are: the repository, the installed peers, the data directories that tests leave behind.
//!
//! A test that leaves a broker's data directory under [`data_dir`] has it judged by Kafka's own `DumpLogSegments` when
//! `tools_data.rs` runs, which is after all others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// What `make peers` installed under `name`.
///
/// # Panics
/// When it is not installed: no judge is skipped in silence.
pub fn peer(name: &str) -> PathBuf {
    let path = repository().join(".peers").join(name);
    assert!(
        path.join(".stamp").exists(),
        "{name} is not installed: run `make peers` first"
    );
    path
}

/// Cargo's target directory: that of the running test.
pub fn target() -> PathBuf {
    let mut path = std::env::current_exe().unwrap_or_default();
    // target/<profile>/deps/<test>
    for _ in 0..3 {
        path.pop();
    }
    path
}

/// The folder that holds every data directory the tests leave.
pub fn data_root() -> PathBuf {
    target().join("ottla-test-data")
}

/// An empty folder for a broker's data that is kept after the test, to be judged by `DumpLogSegments`.
///
/// # Panics
/// When the folder cannot be made.
pub fn data_dir(name: &str) -> PathBuf {
    let path = data_root().join(name);
    let _ = std::fs::remove_dir_all(&path);
    if let Err(error) = std::fs::create_dir_all(&path) {
        panic!("cannot make {}: {error}", path.display());
    }
    path
}

/// The `ottla` command, built with the profile of the running test.
///
/// # Panics
/// When it does not build.
pub fn ottla_command() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let exe = std::env::current_exe().unwrap_or_default();
        let profile_dir = exe
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("."))
            .to_path_buf();
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--package", "ottla-cli", "--target-dir"])
            .arg(target());
        match profile_dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => {}
            Some(profile) => {
                build.args(["--profile", profile]);
            }
        }
        match build.current_dir(repository()).status() {
            Ok(status) if status.success() => profile_dir.join("ottla"),
            other => panic!("the ottla command does not build: {other:?}"),
        }
    })
}
