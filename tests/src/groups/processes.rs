//! Members as child processes. In: the command of one, in any language. Out: the lines that all of them wrote, in one
//! [`Book`]; they can be stopped for a while and killed.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::history::{Line, What};
use super::member::now;
use crate::peer::Failure;

/// What all members wrote.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Vec<Line>>>);

impl Book {
    fn write(&self, line: Line) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is a line of a member whose name begins with `name` and of which `so` holds.
    pub fn has(&self, name: &str, so: impl Fn(&What) -> bool) -> bool {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| line.member.starts_with(name) && so(&line.what))
    }

    /// The partitions that each member has now.
    pub fn owned(&self) -> BTreeMap<String, HashSet<i32>> {
        let mut owned: BTreeMap<String, HashSet<i32>> = BTreeMap::new();
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes: Vec<&Line> = lines
            .iter()
            .filter(|line| !matches!(line.what, What::Read(..)))
            .collect();
        changes.sort_by_key(|line| line.at);
        for line in changes {
            let mine = owned.entry(line.member.clone()).or_default();
            match &line.what {
                What::Assigned(partitions) => mine.extend(partitions),
                What::Revoked(partitions) | What::Lost(partitions) => {
                    mine.retain(|partition| !partitions.contains(partition));
                }
                What::Leaving | What::Killed => mine.clear(),
                _ => {}
            }
        }
        owned.retain(|_, partitions| !partitions.is_empty());
        owned
    }

    /// How many records were read of each partition, to the highest offset.
    pub fn read(&self, partitions: usize) -> Vec<i64> {
        let mut read = vec![0; partitions];
        for line in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            if let What::Read(partition, _, next) = line.what
                && let Some(highest) = read.get_mut(partition as usize)
            {
                *highest = next.max(*highest);
            }
        }
        read
    }

    /// Waits until `so`.
    ///
    /// # Errors
    /// When it is not within two minutes: `what`, and who has what.
    pub fn wait(&self, what: &str, mut so: impl FnMut(&Book) -> bool) -> Result<(), Failure> {
        let start = Instant::now();
        while !so(self) {
            if start.elapsed() > Duration::from_secs(120) {
                let lines = self.lines();
                let last = &lines[lines.len().saturating_sub(20)..];
                return Err(format!("{what}: does not happen; {:?}; {last:#?}", self.owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A process with one member or several. Killed on drop.
pub struct Members {
    child: Child,
    name: String,
    book: Book,
    reading: Option<JoinHandle<()>>,
}

impl Members {
    /// Starts `command`, whose members have names that begin with `name`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &str, command: &mut Command, book: &Book) -> Result<Members, Failure> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let (sink, member) = (book.clone(), name.to_owned());
        let reading = std::thread::spawn(move || {
            for text in BufReader::new(output).lines().map_while(Result::ok) {
                // A line that was cut by a kill tells nothing.
                match Line::parse(&text) {
                    Ok(line) => sink.write(line),
                    Err(error) => println!("{member}: {error}"),
                }
            }
        });
        Ok(Members {
            child,
            name: name.to_owned(),
            book: book.clone(),
            reading: Some(reading),
        })
    }

    /// kill -9. Notes it for each of the process's members that has not left.
    pub fn kill(mut self) {
        self.die();
    }

    fn die(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        let _ = self.child.kill();
        let at = now();
        let _ = self.child.wait();
        let _ = reading.join();
        let lines = self.book.lines();
        let left = lines.iter().filter(|line| matches!(line.what, What::Left(_)));
        let mut known: HashSet<String> = left.map(|line| line.member.clone()).collect();
        for line in lines {
            if line.member.starts_with(&format!("{}.", self.name)) && known.insert(line.member.clone()) {
                let what = What::Killed;
                self.book.write(Line {
                    at,
                    member: line.member,
                    what,
                });
            }
        }
    }

    /// SIGSTOP now and SIGCONT after `pause`, whatever becomes of this process meanwhile.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn stop_for(&self, pause: Duration) -> Result<(), Failure> {
        let script = "kill -STOP $0 && sleep $1; kill -CONT $0";
        let mut shell = Command::new("sh")
            .args([
                "-c",
                script,
                &self.child.id().to_string(),
                &pause.as_secs_f32().to_string(),
            ])
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        std::thread::spawn(move || shell.wait());
        Ok(())
    }

    /// Ends its standard input, which makes its members leave, and waits for them.
    ///
    /// # Errors
    /// When they have not left after a minute.
    pub fn leave(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        let start = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if start.elapsed() > Duration::from_secs(60) {
                return Err(format!("{} does not leave", self.name));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(reading) = self.reading.take() {
            let _ = reading.join();
        }
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.die();
    }
}
