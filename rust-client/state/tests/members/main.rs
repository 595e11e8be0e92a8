//! A member's behaviour as stories: commands in, words out, compared with the files `member_*.txt` in `testdata`.
//!
//! `UPDATE=1 cargo test -p ottla-client-state --test members` writes the files anew; a change of behaviour is then
//! reviewed as a change of text. The commands stand in `stage.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a mistake in a script must stop the test

mod stage;
mod words;

use std::path::Path;

use stage::Stage;

/// The script with the answers it gets now.
fn play(name: &str, script: &str) -> String {
    let mut stage = Stage::new();
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with("->")) {
        out += line;
        out.push('\n');
        let command = line.split('#').next().unwrap_or_default().trim();
        if !command.is_empty() {
            for said in stage.command(command, name) {
                out += &said;
                out.push('\n');
            }
        }
    }
    out
}

#[test]
fn members_behave_as_the_transcripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let (mut played, mut others) = (0, Vec::new());
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("member_") {
            continue;
        }
        let script = std::fs::read_to_string(&path).unwrap();
        let now = play(&name, &script);
        played += 1;
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, now).unwrap();
        } else if now != script {
            let differs = now.lines().zip(script.lines()).find(|(now, then)| now != then);
            others.push(format!("{name}, first at {differs:?}"));
        }
    }
    assert!(
        others.is_empty(),
        "another story (UPDATE=1 writes it anew): {others:#?}"
    );
    assert!(played >= 5, "only {played} transcripts in {}", folder.display());
}
