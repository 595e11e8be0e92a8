//! Runs a runner over the files of `tests/scenarios`, and compares what it tells with what stands there.
//!
//! Takes a stage, a runner and files. Gives the differences, as text; none is agreement.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::runners::Runner;
use super::script::{EXPECTED, is_command};
use super::stage::Stage;
use crate::peer::Failure;
use crate::peer::broker_process::Kind;
use crate::place;

/// How long a runner may take to tell a file, on average: far longer than any does.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a runner's standard error is shown.
const LAST_WORDS: usize = 2000;

/// A file of `tests/scenarios`.
pub struct Scenario {
    /// Its name without `.txt`.
    pub stem: String,
    /// All that stands there.
    pub text: String,
    path: PathBuf,
}

impl Scenario {
    /// All of them, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn all() -> Result<Vec<Scenario>, Failure> {
        Scenario::in_folder(&place::repository().join("tests/scenarios"))
    }

    /// All of a folder, by name.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Vec<Scenario>, Failure> {
        let text = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut all = vec![];
        for entry in std::fs::read_dir(folder).map_err(text)? {
            let path = entry.map_err(text)?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                all.push(Scenario {
                    stem: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                    text: std::fs::read_to_string(&path).map_err(text)?,
                    path,
                });
            }
        }
        all.sort_by(|a, b| a.stem.cmp(&b.stem));
        Ok(all)
    }

    /// Whether it can be told on this broker.
    pub fn fits(&self, kind: Kind) -> bool {
        kind == Kind::Ottla || !self.text.lines().any(|line| line.trim_end() == "# needs: faults")
    }

    fn expected(&self) -> Vec<&str> {
        let told = self.text.lines().map(str::trim_end);
        told.filter(|line| is_command(line) || line.starts_with(EXPECTED))
            .collect()
    }

    /// Writes the file anew, with what was told behind its commands.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn update(&self, told: &str) -> Result<(), Failure> {
        let mut told = told.lines().peekable();
        let mut text = String::new();
        for line in self.text.lines().filter(|line| !line.starts_with(EXPECTED)) {
            let _ = writeln!(text, "{}", line.trim_end());
            if is_command(line) && told.next_if_eq(&line.trim_end()).is_some() {
                while let Some(printed) = told.next_if(|line| line.starts_with(EXPECTED)) {
                    let _ = writeln!(text, "{printed}");
                }
            }
        }
        std::fs::write(&self.path, text).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Has `runner` tell the scenarios. Gives what it told, by file; and why it ended before its time, if it did.
///
/// # Errors
/// It does not even start.
pub fn hear(
    stage: &Stage,
    runner: &Runner,
    scenarios: &[&Scenario],
) -> Result<(BTreeMap<String, String>, Option<Failure>), Failure> {
    let mut command = (runner.command)()?;
    let prefix = format!("{}-{:?}", runner.name, stage.kind).to_lowercase();
    command
        .args(scenarios.iter().map(|scenario| &scenario.path))
        .current_dir(place::repository())
        .env("OTTLA_BOOTSTRAP", stage.bootstrap())
        .env("OTTLA_STAGE", stage.control().to_string())
        .env("OTTLA_PREFIX", prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", runner.name))?;
    let (out, words) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let ended = wait(&mut child, PATIENCE * scenarios.len().max(2) as u32);
    let (out, words) = (out.join().unwrap_or_default(), words.join().unwrap_or_default());
    let trouble = ended.err().map(|how| {
        let from = words.len().saturating_sub(LAST_WORDS);
        let words = String::from_utf8_lossy(&words.as_bytes()[from..]).into_owned();
        let name = runner.name;
        format!(
            "{name} {how} in scenario {:?}; its last words:\n{words}",
            stage.scenario()
        )
    });
    stage.clear();
    Ok((chapters(&out), trouble))
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut pipe) = pipe {
            // What came before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, patience: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("ended with {status}")),
            Ok(None) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {patience:?}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What was told of each file.
fn chapters(out: &str) -> BTreeMap<String, String> {
    let mut chapters = BTreeMap::new();
    let mut stem = String::new();
    for line in out.lines() {
        match line.strip_prefix("=== ") {
            Some(next) => next.clone_into(&mut stem),
            None => {
                let chapter: &mut String = chapters.entry(stem.clone()).or_default();
                let _ = writeln!(chapter, "{line}");
            }
        }
    }
    chapters
}

/// What differs between a file and what was told of it, with all that agrees; `None` if nothing does.
pub fn difference(scenario: &Scenario, told: Option<&String>) -> Option<String> {
    let Some(told) = told else {
        return Some("  not told at all\n".to_owned());
    };
    let expected = scenario.expected();
    let told: Vec<&str> = told.lines().collect();
    (expected != told).then(|| diff(&expected, &told))
}

/// The lines of both: common ones, `-` those of the first, `+` those of the second.
fn diff(first: &[&str], second: &[&str]) -> String {
    // longest[i][j]: how many lines the rest of the first from i and the rest of the second from j have in common.
    let mut longest = vec![vec![0_usize; second.len() + 1]; first.len() + 1];
    for i in (0..first.len()).rev() {
        for j in (0..second.len()).rev() {
            longest[i][j] = if first[i] == second[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < first.len() || j < second.len() {
        let (mark, line) = if i < first.len() && j < second.len() && first[i] == second[j] {
            (' ', first[i])
        } else if j == second.len() || (i < first.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            ('-', first[i])
        } else {
            ('+', second[j])
        };
        i += usize::from(mark != '+');
        j += usize::from(mark != '-');
        let _ = writeln!(text, "{mark} {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        Scenario {
            stem: "s".to_owned(),
            path: tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_story_told_otherwise_is_shown_line_by_line() {
        let file = scenario("# What it proves.\n\none x=1\n-> 1\n# why\ntwo\n-> 2\n-> 3\n");
        let told = |text: &str| chapters(&format!("=== s\n{text}")).remove("s");
        assert_eq!(
            difference(&file, told("one x=1\n-> 1\ntwo\n-> 2\n-> 3\n").as_ref()),
            None
        );
        let shown = difference(&file, told("one x=1\n-> 1\ntwo\n-> 4\n-> 3\n").as_ref()).unwrap();
        assert_eq!(shown, "  one x=1\n  -> 1\n  two\n- -> 2\n+ -> 4\n  -> 3\n");
        let cut_short = difference(&file, told("one x=1\n").as_ref()).unwrap();
        assert_eq!(cut_short, "  one x=1\n- -> 1\n- two\n- -> 2\n- -> 3\n");
        assert_eq!(difference(&file, None).as_deref(), Some("  not told at all\n"));
    }

    #[test]
    fn a_file_is_written_anew_with_its_comments() {
        let file = scenario("# What it proves.\n\none x=1  \n-> 1\n# why\ntwo\n-> 2\n-> 3\n");
        file.update("one x=1\ntwo\n-> 4\n").unwrap();
        let written = std::fs::read_to_string(&file.path).unwrap();
        std::fs::remove_file(&file.path).unwrap();
        assert_eq!(written, "# What it proves.\n\none x=1\n# why\ntwo\n-> 4\n");
    }

    #[test]
    fn faults_keep_a_scenario_from_apache_kafka() {
        let file = scenario("# What it proves.\n# needs: faults\n");
        assert!(file.fits(Kind::Ottla) && !file.fits(Kind::Apache));
        assert!(scenario("# What it proves.\n").fits(Kind::Apache));
    }
}
