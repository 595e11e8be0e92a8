//! Kafka's own `DumpLogSegments` (4.3.1) reads every data directory that the tests have left, and finds nothing wrong.
//!
//! Cargo runs test programs in the order of their names, so this one comes after those that leave directories
//! (`ottla_tests::place::data_dir`). Run alone it judges a directory of its own.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::java::JavaTools;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::{Client, Content, Outgoing};
use ottla_tests::place;
use ottla_tests::rng::Rng;

/// How much of a log is dumped at a time.
const DUMP_BYTES: u64 = 4 * 1024 * 1024;

/// A log beyond this is dumped in pieces, without its records and its indexes: those would take the tool more memory and
/// time than there is.
const LARGE_BYTES: u64 = 32 * 1024 * 1024;

#[test]
fn dump_log_segments_finds_every_batch_and_index_valid() {
    leave_a_directory_of_our_own();
    let tools = JavaTools::start().unwrap();
    let (mut directories, mut found) = (0, Found::default());
    for directory in data_directories(&place::data_root()) {
        let one = judge(&tools, &directory);
        println!(
            "{}: {one:?}",
            directory.strip_prefix(place::data_root()).unwrap().display()
        );
        assert!(
            one.metadata_records > 0,
            "{}: no record in __cluster_metadata-0",
            directory.display()
        );
        directories += 1;
        found.add(&one);
    }
    println!("{directories} directories: {found:?}");
    assert!(found.batches > 0 && found.index_files > 0 && found.metadata_records > 0);
    assert!(found.faults.is_empty(), "\n{}\n", found.faults.join("\n"));
}

#[test]
fn dump_log_segments_would_have_found_a_flipped_bit() {
    let tools = JavaTools::start().unwrap();
    let copy = tempfile::tempdir().unwrap();
    // Not below the root: the other test judges what it finds there, at any moment.
    let original = copy.path().join("original");
    write_directory(&original);
    let log = original.join("plain-0/00000000000000000000.log");
    let mut bytes = std::fs::read(log).unwrap();
    // Inside a record of a batch in the middle.
    let middle = bytes.len() / 2 + 1_000;
    bytes[middle] ^= 1;
    let judged = copy.path().join("judged");
    let partition = judged.join("plain-0");
    std::fs::create_dir_all(&partition).unwrap();
    std::fs::write(partition.join("00000000000000000000.log"), bytes).unwrap();
    assert!(!judge(&tools, &judged).faults.is_empty());
}

/// What the tool said about one data directory.
#[derive(Debug, Default)]
struct Found {
    log_files: usize,
    batches: usize,
    records: usize,
    metadata_records: usize,
    index_files: usize,
    faults: Vec<String>,
}

impl Found {
    fn add(&mut self, other: &Found) {
        self.log_files += other.log_files;
        self.batches += other.batches;
        self.records += other.records;
        self.metadata_records += other.metadata_records;
        self.index_files += other.index_files;
        self.faults.extend(other.faults.iter().cloned());
    }
}

fn judge(tools: &JavaTools, directory: &Path) -> Found {
    let mut found = Found::default();
    let clean = directory.join(".kafka_cleanshutdown").exists();
    for partition in folders(directory) {
        let metadata = partition.ends_with("__cluster_metadata-0");
        let logs = files(&partition, "log");
        found.log_files += logs.len();
        let pieces = tempfile::tempdir().unwrap();
        for files in in_portions(&in_pieces(&logs, pieces.path())) {
            let list = files.join(",");
            let mut options = vec!["--files", &list];
            // The records of a long run are millions of lines; its batches are enough.
            if !Path::new(&files[0]).starts_with(pieces.path()) {
                options.push("--deep-iteration");
            }
            // Of other logs only what surrounds the values is printed: a value may unfold to many MiB.
            if metadata {
                options.push("--cluster-metadata-decoder");
            }
            let said = tools.dump_log(&options);
            judge_logs(said, &files, metadata, &mut found);
        }
        // The tool reads the rest of the log for each entry of an index: too long for a large one.
        let is_small = |index: &String| {
            let log = Path::new(index).with_extension("log");
            log.metadata().is_ok_and(|log| log.len() <= LARGE_BYTES)
        };
        let mut indexes = [files(&partition, "index"), files(&partition, "timeindex")].concat();
        indexes.retain(is_small);
        if !indexes.is_empty() {
            judge_indexes(tools, &indexes, clean, &mut found);
        }
    }
    found
}

fn judge_logs(said: Result<String, String>, files: &[String], metadata: bool, found: &mut Found) {
    let said = match said {
        Ok(said) => said,
        Err(error) => return found.faults.push(format!("{files:?}: {error}")),
    };
    for line in said.lines() {
        if line.starts_with("baseOffset:") {
            found.batches += 1;
            if !line.contains("isvalid: true") {
                found.faults.push(format!("{files:?}: {line}"));
            }
        } else if line.starts_with("| ") {
            found.records += 1;
            found.metadata_records += usize::from(metadata);
            if metadata && line.contains("payload: Could not decode") {
                found.faults.push(format!("{files:?}: {line}"));
            }
        } else if is_complaint(line) {
            found.faults.push(format!("{files:?}: {line}"));
        }
    }
}

/// What an intact log never makes the tool say.
fn is_complaint(line: &str) -> bool {
    if let Some((before, _)) = line.split_once(" is followed by ") {
        // The tool takes what comes before the first record of any segment for offset -1.
        return before.trim() != "-1";
    }
    let names_a_file = line.starts_with("Dumping ") || line.starts_with("Non-consecutive offsets in ");
    let complaints = ["invalid", "ismatch", "Misaligned", "Could not", "Exception"];
    !names_a_file && complaints.iter().any(|word| line.contains(word))
}

/// Without complaint every line of a dump is the name of a file, an entry, or that the file passed.
fn judge_indexes(tools: &JavaTools, files: &[String], clean: bool, found: &mut Found) {
    found.index_files += files.len();
    let list = files.join(",");
    let mut runs = vec![tools.dump_log(&["--verify-index-only", "--files", &list])];
    // What a broker checks on its start. An index that was not closed still has its preallocated length.
    if clean {
        runs.push(tools.dump_log(&["--index-sanity-check", "--files", &list]));
    }
    for run in runs {
        match run {
            Ok(said) => found.faults.extend(
                said.lines()
                    .filter(|line| !line.starts_with("Dumping "))
                    // An index without entries is a fine one.
                    .filter(|line| !line.ends_with(" passed sanity check.") && !line.ends_with(" is empty."))
                    .map(|line| format!("{line} ({list})")),
            ),
            Err(error) => found.faults.push(format!("{list}: {error}")),
        }
    }
}

/// The same logs with the large ones cut between batches, into files in `place` that are named by their first offset as
/// segments are. What follows the last whole batch of a log stays with its last piece.
fn in_pieces(logs: &[String], place: &Path) -> Vec<String> {
    let mut pieces = vec![];
    for log in logs {
        if std::fs::metadata(log).unwrap().len() <= LARGE_BYTES {
            pieces.push(log.clone());
            continue;
        }
        let bytes = std::fs::read(log).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let base = rest.first_chunk().map_or(0, |base| i64::from_be_bytes(*base));
            let mut end = 0;
            while let Some(length) = rest.get(end + 8..end + 12)
                && (end as u64) < DUMP_BYTES
            {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                end = (end + 12 + length).min(rest.len());
            }
            if rest.len() - end < 12 {
                end = rest.len();
            }
            let piece = place.join(format!("{base:020}.log"));
            std::fs::write(&piece, &rest[..end]).unwrap();
            pieces.push(piece.display().to_string());
            rest = &rest[end..];
        }
    }
    pieces
}

/// Groups of files of a few MiB each, so that a dump fits in memory.
fn in_portions(files: &[String]) -> Vec<Vec<String>> {
    let mut portions: Vec<Vec<String>> = vec![];
    let mut size = 0;
    for file in files {
        let length = std::fs::metadata(file).unwrap().len();
        size += length;
        if size > DUMP_BYTES || portions.is_empty() {
            portions.push(vec![]);
            size = length;
        }
        portions.last_mut().unwrap().push(file.clone());
    }
    portions
}

/// Every folder below `root` with a `meta.properties`.
fn data_directories(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    if root.join("meta.properties").exists() {
        found.push(root.to_path_buf());
    }
    for folder in folders(root) {
        found.extend(data_directories(&folder));
    }
    found
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn files(folder: &Path, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let matching = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    let mut files: Vec<String> = matching.map(|path| path.display().to_string()).collect();
    files.sort();
    files
}

fn leave_a_directory_of_our_own() {
    write_directory(&place::data_dir("tools-data"));
}

/// Several segments, index entries, every codec; then a clean stop.
fn write_directory(data: &Path) {
    let properties = ["log.segment.bytes=1048576", "log.index.interval.bytes=512"];
    let mut broker = BrokerProcess::start_on(Kind::Ottla, Some(data.to_path_buf()), &properties).unwrap();
    let client = Librdkafka::start().unwrap();
    let bootstrap = broker.bootstrap();
    let mut rng = Rng::new(5);
    for (topic, codec) in [
        ("plain", "none"),
        ("gzip", "gzip"),
        ("snappy", "snappy"),
        ("lz4", "lz4"),
        ("zstd", "zstd"),
    ] {
        client.create_topic(&bootstrap, topic, 2).unwrap();
        for _ in 0..4 {
            let content = |key: u8, value| Content {
                key: Some(vec![key]),
                value: Some(value),
                headers: vec![],
            };
            let records: Vec<Outgoing> = (0..100)
                .map(|at| Outgoing {
                    content: content(at % 5, rng.bytes(5_000)),
                    timestamp: None,
                })
                .collect();
            client.produce(&bootstrap, topic, codec, &records).unwrap();
        }
    }
    broker.stop().unwrap();
    assert!(
        files(&data.join("plain-0"), "log").len() + files(&data.join("plain-1"), "log").len() > 2,
        "no segment rolled"
    );
}
