//! The repository's own rules, as tests: what CONTRIBUTING.md says, this file refuses.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ottla_tests::place;
use ottla_tests::source::{code_only, functions, tests_begin};

/// Folders that hold nothing written by hand.
const GENERATED: [&str; 2] = ["protocol/src/messages/", "protocol/src/internal/"];
/// Folders that are not the repository's.
const FOREIGN: [&str; 6] = [".git", ".peers", "target", "node_modules", "__pycache__", "corpus"];
/// The crates that have no clock, no sockets, no files and no runtime.
const MINDS: [&str; 2] = ["rust-client/state", "broker/state"];

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 70;
/// (path, function or `*` for the file itself, why it may be longer)
const LONGER: [(&str, &str, &str); 2] = [
    (
        "bench/adapters/rust/src/bin/rdkafka.rs",
        "main",
        "an adapter reads best as one run from top to bottom",
    ),
    (
        "bench/adapters/rust/src/bin/rskafka.rs",
        "main",
        "an adapter reads best as one run from top to bottom",
    ),
];

#[test]
fn minds_name_no_runtime_clock_socket_or_file() {
    let forbidden = [
        "tokio",
        "std::net",
        "std::fs",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "rand::rng(",
        "rand::random(",
    ];
    let mut faults = vec![];
    for mind in MINDS {
        let manifest = read(&place::repository().join(mind).join("Cargo.toml"));
        for dependency in ["tokio", "socket2", "rustix", "tempfile", "getrandom"] {
            if section(&manifest, "dependencies").any(|line| line.starts_with(dependency)) {
                faults.push(format!("{mind}/Cargo.toml depends on {dependency}"));
            }
        }
        for (path, text) in rust_sources()
            .into_iter()
            .filter(|(path, _)| path.starts_with(&format!("{mind}/src/")))
        {
            for (number, line) in code_only(&text).lines().enumerate() {
                let named = forbidden.iter().filter(|name| line.contains(**name));
                faults.extend(named.map(|name| format!("{path}:{}: names {name}", number + 1)));
            }
        }
    }
    refuse(&faults);
}

#[test]
fn files_and_functions_are_short() {
    let mut faults = vec![];
    for (path, text) in rust_sources() {
        let may_be_longer = |what: &str| LONGER.iter().any(|(file, name, _)| *file == path && *name == what);
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES && !may_be_longer("*") {
            faults.push(format!("{path}: {lines} lines, at most {MAX_FILE_LINES}"));
        }
        for function in functions(&code_only(&text)) {
            if function.lines > MAX_FUNCTION_LINES && !may_be_longer(&function.name) {
                let (line, name, lines) = (function.line, function.name, function.lines);
                faults.push(format!(
                    "{path}:{line}: fn {name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
                ));
            }
        }
    }
    refuse(&faults);
}

#[test]
fn files_open_with_what_the_room_does() {
    let opens = |text: &str| text.trim_start().starts_with("//!");
    let silent = rust_sources()
        .into_iter()
        .filter(|(path, text)| !path.ends_with("/tests.rs") && !opens(text));
    refuse(
        &silent
            .map(|(path, _)| format!("{path}: opens without a `//!` comment"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn handlers_open_with_their_contract() {
    let mut faults = vec![];
    for (path, text) in rust_sources() {
        let name = path.rsplit('/').next().unwrap_or_default();
        if !path.starts_with("broker/src/handlers/") || name == "mod.rs" {
            continue;
        }
        let head = text.lines().next().unwrap_or_default();
        if !(head.starts_with("//! ") && head.contains("(key")) {
            faults.push(format!("{path}: opens with {head:?}, not with `//! Name (key N)`"));
        }
    }
    refuse(&faults);
}

#[test]
fn unwrap_and_expect_outside_tests_say_why() {
    let mut faults = vec![];
    for (path, text) in rust_sources().into_iter().filter(|(path, _)| !is_test_code(path)) {
        let code = code_only(&text);
        let original: Vec<&str> = text.lines().collect();
        let tests = tests_begin(&code);
        for (at, line) in code.lines().enumerate().take_while(|(at, _)| at + 1 < tests) {
            let explained = original[at.saturating_sub(4)..=at]
                .iter()
                .any(|line| line.contains("// ") || line.contains("reason = "));
            if (line.contains(".unwrap()") || line.contains(".expect(")) && !explained {
                faults.push(format!("{path}:{}: {}", at + 1, original[at].trim()));
            }
        }
    }
    refuse(&faults);
}

#[test]
fn nothing_is_left_to_do_later() {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut faults = vec![];
    for (path, text) in rust_sources() {
        for (number, line) in text.lines().enumerate() {
            let left = marks.iter().filter(|mark| line.contains(**mark));
            faults.extend(left.map(|mark| format!("{path}:{}: {mark}", number + 1)));
        }
    }
    refuse(&faults);
}

#[test]
fn every_generated_message_is_in_the_index() {
    let mut faults = vec![];
    for folder in GENERATED {
        let folder = place::repository().join(folder);
        let index = read(&folder.join("mod.rs"));
        for path in walk(&folder) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if name != "mod" && !index.contains(&format!("mod {name};")) {
                faults.push(format!("{} is missing from its mod.rs", path.display()));
            }
        }
    }
    refuse(&faults);
}

#[test]
fn every_configuration_key_has_a_doc() {
    let broker = ottla_broker::config::keys::KEYS
        .iter()
        .map(|key| ("broker", key.name, key.doc));
    let topic = ottla_broker::config::topic::keys().map(|key| ("topic", key.name, key.doc));
    let client = ottla::config::KEYS.iter().map(|key| ("client", key.name, key.doc));
    // A sentence: shorter than this none says what a key means.
    let silent = broker
        .chain(topic)
        .chain(client)
        .filter(|(_, _, doc)| doc.len() < 12 || !doc.trim_end_matches(')').ends_with('.'));
    refuse(
        &silent
            .map(|(of, name, doc)| format!("{of} key {name}: {doc:?}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_dependency_is_explained_in_the_readme() {
    let manifest = read(&place::repository().join("Cargo.toml"));
    let readme = read(&place::repository().join("README.md"));
    // The first cell of each row of the README's tables, as words.
    let explained: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .flat_map(|cell| cell.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-'))
        .collect();
    let names = section(&manifest, "workspace.dependencies")
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim());
    let missing = names.filter(|name| !name.starts_with("ottla") && !explained.contains(name));
    refuse(
        &missing
            .map(|name| format!("{name} has no line in README.md's table of dependencies"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let workspace = read(&place::repository().join("Cargo.toml"));
    let manifests = walk(&place::repository())
        .into_iter()
        .filter(|path| path.ends_with("Cargo.toml"));
    let mut faults = vec![];
    for path in manifests {
        let text = read(&path);
        // Folders outside the workspace (fuzzing, benchmarks) have an empty [workspace] of their own.
        if text.contains("[workspace") || text.contains("[lints]\nworkspace = true") {
            continue;
        }
        // At the border to another language some `unsafe` is needed; there it is denied, and allowed with a reason.
        let at_the_border = path.starts_with(place::repository().join("bindings"));
        if !at_the_border || own_lints(&text) != own_lints(&workspace) {
            faults.push(format!("{}: no `[lints] workspace = true`", path.display()));
        }
    }
    refuse(&faults);
}

/// What a manifest says about lints, `forbid` and `deny` being the same.
fn own_lints(manifest: &str) -> Vec<String> {
    let lints = ["lints.rust", "lints.clippy"];
    let lines = lints.iter().flat_map(|name| {
        let of = |name: &str| section(manifest, name).map(str::to_owned).collect::<Vec<_>>();
        [of(name), of(&format!("workspace.{name}"))].concat()
    });
    lines
        .map(|line| line.replace("forbid", "deny"))
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .collect()
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let mut faults = vec![];
    for path in walk(&place::repository()) {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let named = places.iter().filter(|place| line.contains(**place));
            faults.extend(named.map(|place| format!("{}:{}: names {place}", path.display(), number + 1)));
        }
    }
    refuse(&faults);
}

fn refuse(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Tests, benchmarks and programs that only tests start may stop at what they did not expect.
fn is_test_code(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.starts_with("tests/")
        || path.starts_with("bench/")
        || path.contains("/tests/")
        || path.contains("/benches/")
        || path.contains("/fuzz/")
}

/// Every Rust file written by hand, as (path from the root, text).
fn rust_sources() -> Vec<(String, String)> {
    let root = place::repository();
    let files = walk(&root)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
        .map(|path| {
            (
                path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
                read(&path),
            )
        })
        .filter(|(path, _)| !GENERATED.iter().any(|folder| path.starts_with(folder)))
        .collect()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if FOREIGN.iter().any(|foreign| name == *foreign) {
            continue;
        }
        if path.is_dir() {
            files.extend(walk(&path))
        } else {
            files.push(path)
        }
    }
    files.sort();
    files
}

/// The lines of one section of a manifest.
fn section<'a>(manifest: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let head = format!("[{name}]");
    manifest
        .lines()
        .skip_while(move |line| *line != head)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
