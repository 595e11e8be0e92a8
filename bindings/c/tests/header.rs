//! The header is what the sources say: generated anew and compared with the one that is checked in. `UPDATE=1` writes it.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

/// In the order in which a reader wants to meet them.
const SOURCES: [&str; 12] = [
    "lib",
    "error",
    "config",
    "reports",
    "producer",
    "batch",
    "consumer",
    "group",
    "admin",
    "admin_groups",
    "log",
    "cluster",
];

#[test]
fn the_header_is_that_of_the_sources() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).unwrap();
    config.after_includes = Some(version());
    // cbindgen follows modules in alphabetical order; one file keeps ours.
    let whole: String = SOURCES
        .iter()
        .map(|name| flat(&crate_dir.join("src").join(name).with_extension("rs")))
        .collect();
    let joined = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ottla_h.rs");
    std::fs::write(&joined, whole).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(&joined);
    let mut generated = Vec::new();
    builder
        .generate()
        .expect("the sources can be read")
        .write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    let checked_in = crate_dir.join("include/ottla.h");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&checked_in, &generated).unwrap();
    }
    let header = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        header == generated,
        "include/ottla.h is not what the sources say: UPDATE=1 cargo test -p ottla-c --test header"
    );
}

/// A source without what may stand only at the beginning of a file, and without its modules.
fn flat(source: &Path) -> String {
    let text = std::fs::read_to_string(source).unwrap();
    let kept = text.lines().filter(|line| {
        let is_module = line.starts_with("mod ") && line.ends_with(';');
        !(is_module || ["//!", "#![", "#[cfg("].iter().any(|start| line.starts_with(start)))
    });
    // Behind this line of a file there is nothing for C.
    let code = kept.take_while(|line| *line != "mod tests {");
    code.map(|line| format!("{line}\n")).collect()
}

/// The macros with the version.
fn version() -> String {
    format!(
        "\n/** The version of this header; ottla_version() says that of the library. */\n#define OTTLA_VERSION \"{}\"\n\
         #define OTTLA_VERSION_MAJOR {}\n#define OTTLA_VERSION_MINOR {}\n#define OTTLA_VERSION_PATCH {}",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    )
}
