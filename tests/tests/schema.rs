//! Every message of every version, judged by Kafka's own classes, and the committed files by the generator.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use ottla_protocol::catalog::MessageInfo;
use ottla_protocol::internal::{groups, metadata, transactions};
use ottla_protocol::{ApiKey, ErrorCode, internal, messages};
use ottla_protocol_generate::sample::{sample, sample_with_unknown_tags};
use ottla_protocol_generate::schema::{Kind, Message};
use ottla_protocol_generate::{FOLDERS, Release, generate, load};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Samples of each message in each version, in each direction.
const SAMPLES: u64 = 20;

const SEED: u64 = 4_400;

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn jars() -> PathBuf {
    let jars = repository().join(".peers/kafka-4.4.0");
    assert!(
        jars.join("kafka-clients-4.4.0.jar").exists(),
        "Kafka's jars are not installed: run `make peers` first"
    );
    jars
}

fn release() -> Release {
    load(&[jars()]).unwrap()
}

fn java(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("java")
        .arg("-cp")
        .arg(jars().join("*"))
        .arg(repository().join("tests/java/SchemaPeer.java"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java (17 or later) must be on the PATH");
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A message without its type: name, version and bytes.
#[derive(Debug, PartialEq)]
struct Named {
    name: String,
    version: i16,
    bytes: Vec<u8>,
}

impl Named {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.name.len() as i32).to_be_bytes());
        out.extend(self.name.as_bytes());
        out.extend(self.version.to_be_bytes());
        out.extend((self.bytes.len() as i32).to_be_bytes());
        out.extend(&self.bytes);
    }

    fn read_all(mut bytes: &[u8]) -> Vec<Named> {
        let mut all = Vec::new();
        let take = |bytes: &mut &[u8], length: usize| {
            let (taken, rest) = bytes.split_at(length);
            *bytes = rest;
            taken.to_vec()
        };
        while !bytes.is_empty() {
            let length = i32::from_be_bytes(take(&mut bytes, 4).try_into().unwrap());
            let name = String::from_utf8(take(&mut bytes, length as usize)).unwrap();
            let version = i16::from_be_bytes(take(&mut bytes, 2).try_into().unwrap());
            let length = i32::from_be_bytes(take(&mut bytes, 4).try_into().unwrap());
            all.push(Named {
                name,
                version,
                bytes: take(&mut bytes, length as usize),
            });
        }
        all
    }
}

fn catalog() -> BTreeMap<&'static str, &'static MessageInfo> {
    messages::CATALOG
        .iter()
        .chain(internal::CATALOG)
        .map(|info| (info.name, info))
        .collect()
}

fn pairs(release: &Release) -> impl Iterator<Item = (&Message, i16)> {
    release
        .messages
        .iter()
        .flat_map(|message| (message.valid.first..=message.valid.last).map(move |v| (message, v)))
}

fn pair_lines(release: &Release) -> String {
    pairs(release)
        .map(|(message, version)| format!("{} {version}\n", message.name))
        .collect()
}

#[test]
fn the_committed_messages_are_what_the_generator_writes() {
    let files = generate(&[jars()]).unwrap();
    let source = repository().join("protocol/src");
    for (path, text) in &files {
        let committed = fs::read_to_string(source.join(path)).unwrap_or_default();
        assert!(
            committed == *text,
            "{} is not what `make protocol` writes",
            path.display()
        );
    }
    for folder in FOLDERS {
        for entry in fs::read_dir(source.join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            assert!(
                files.contains_key(&path),
                "{} is not written by `make protocol`",
                path.display()
            );
        }
    }
}

#[test]
fn the_catalog_has_every_message_and_version_of_the_release() {
    let release = release();
    let catalog = catalog();
    assert_eq!(catalog.len(), release.messages.len());
    for message in &release.messages {
        let info = catalog[message.name.as_str()];
        assert_eq!(info.min_version, message.valid.first, "{}", message.name);
        assert_eq!(info.last_version, message.valid.last, "{}", message.name);
        assert_eq!(info.max_version, message.last_stable(), "{}", message.name);
        assert_eq!(info.api_key, message.api_key, "{}", message.name);
    }
}

#[test]
fn kafka_reads_and_writes_what_ottla_writes() {
    let release = release();
    let catalog = catalog();
    let mut input = Vec::new();
    let (mut pair_count, mut sample_count) = (0, 0);
    for (message, version) in pairs(&release) {
        pair_count += 1;
        for seed in 0..SAMPLES {
            let made = sample(message, version, SEED + seed);
            let written = catalog[message.name.as_str()].recode(&made.bytes, version);
            assert_eq!(
                written.as_ref(),
                Ok(&made.bytes),
                "{} v{version} seed {seed}",
                message.name
            );
            Named {
                name: message.name.clone(),
                version,
                bytes: written.unwrap(),
            }
            .write(&mut input);
            sample_count += 1;
        }
    }
    let report = String::from_utf8(java(&["judge"], &input)).unwrap();
    let first: Vec<_> = report.lines().take(10).collect();
    assert_eq!(first, [format!("judged {sample_count}")], "of {pair_count} pairs");
    println!("{pair_count} pairs of message and version, {sample_count} samples");
}

#[test]
fn ottla_reads_and_writes_what_kafka_writes() {
    let release = release();
    let catalog = catalog();
    let samples = SAMPLES.to_string();
    let made = Named::read_all(&java(&["make", "4400", &samples], pair_lines(&release).as_bytes()));
    assert_eq!(made.len() as u64, pairs(&release).count() as u64 * SAMPLES);
    for sample in &made {
        let written = catalog[sample.name.as_str()].recode(&sample.bytes, sample.version);
        assert_eq!(
            written.as_ref(),
            Ok(&sample.bytes),
            "{} v{}",
            sample.name,
            sample.version
        );
    }
}

#[test]
fn stored_records_have_kafkas_frames() {
    let release = release();
    let mut input = Vec::new();
    let mut count = 0;
    let of_kind = |kind: Kind| pairs(&release).filter(move |(message, _)| message.kind == kind);
    for (message, version) in of_kind(Kind::Metadata) {
        for seed in 0..SAMPLES {
            let mut frame = vec![1, message.api_key.unwrap() as u8, version as u8];
            frame.extend(sample(message, version, seed).bytes);
            let (record, read_version) = metadata::decode(&frame).unwrap();
            assert_eq!((Some(record.api_key()), read_version), (message.api_key, version));
            assert_eq!(metadata::encode(&record, version).as_ref(), Ok(&frame));
            let name = "metadata".into();
            Named {
                name,
                version,
                bytes: frame,
            }
            .write(&mut input);
            count += 1;
        }
    }
    for (message, version) in of_kind(Kind::CoordinatorValue) {
        let key_name = message.name.replace("Value", "Key");
        let key_message = release
            .messages
            .iter()
            .find(|message| message.name == key_name)
            .unwrap();
        for seed in 0..SAMPLES {
            let kind = key_message.api_key.unwrap();
            let key = [&kind.to_be_bytes()[..], &sample(key_message, 0, seed).bytes].concat();
            let value = [&version.to_be_bytes()[..], &sample(message, version, seed).bytes].concat();
            let name = if message.name.starts_with("TransactionLog") {
                assert_eq!(transactions::Key::decode(&key).unwrap().encode().as_ref(), Ok(&key));
                let (read, read_version) = transactions::Value::decode(kind, &value).unwrap();
                assert_eq!(read.encode(read_version).as_ref(), Ok(&value));
                "transactions"
            } else {
                assert_eq!(groups::Key::decode(&key).unwrap().encode().as_ref(), Ok(&key));
                let (read, read_version) = groups::Value::decode(kind, &value).unwrap();
                assert_eq!(read.encode(read_version).as_ref(), Ok(&value));
                "groups"
            };
            let bytes = [&(key.len() as i32).to_be_bytes()[..], &key, &value].concat();
            Named {
                name: name.into(),
                version,
                bytes,
            }
            .write(&mut input);
            count += 1;
        }
    }
    let report = String::from_utf8(java(&["judge-stored"], &input)).unwrap();
    let first: Vec<_> = report.lines().take(10).collect();
    assert_eq!(first, [format!("judged {count}")]);
}

#[test]
fn a_new_message_says_the_same_in_both() {
    let release = release();
    let catalog = catalog();
    let made = Named::read_all(&java(&["defaults"], pair_lines(&release).as_bytes()));
    let mut kafkas: BTreeMap<_, _> = made.iter().map(|m| ((m.name.as_str(), m.version), &m.bytes)).collect();
    let mut both = 0;
    for (message, version) in pairs(&release) {
        let name = message.name.as_str();
        let ours = catalog[name].default_bytes(version);
        match (ours, kafkas.remove(&(name, version))) {
            (Ok(ours), Some(kafka)) => {
                assert_eq!(&ours, kafka, "{name} v{version}");
                both += 1;
            }
            (Err(error), Some(_)) => panic!("{name} v{version}: {error}"),
            // Kafka's defaults can be null where the version has no null; ours are empty there.
            (_, None) => {}
        }
    }
    assert!(both > 700, "only {both}");
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let release = release();
    let catalog = catalog();
    for (message, version) in pairs(&release).filter(|(message, version)| message.flexible.contains(*version)) {
        for seed in 0..SAMPLES {
            let plain = sample(message, version, SEED + seed);
            let tagged = sample_with_unknown_tags(message, version, SEED + seed);
            assert!(tagged.bytes.len() > plain.bytes.len());
            let written = catalog[message.name.as_str()].recode(&tagged.bytes, version);
            assert_eq!(written, Ok(plain.bytes), "{} v{version} seed {seed}", message.name);
        }
    }
}

#[test]
fn the_table_of_apis_is_kafkas() {
    let table = String::from_utf8(java(&["apis"], b"")).unwrap();
    let mut seen = Vec::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let key = ApiKey::from_code(words[0].parse().unwrap()).unwrap();
        seen.push(key);
        let mut ours = format!(
            "{} {} {} {} {} {} {}",
            key.code(),
            key.name(),
            key.min_version(),
            key.max_version(),
            key.last_version(),
            key.is_served_by_brokers(),
            key.is_served_by_controllers()
        );
        for version in key.min_version()..=key.last_version() {
            let (request, response) = (
                key.request_header_version(version),
                key.response_header_version(version),
            );
            ours.push_str(&format!(" {request}/{response}"));
        }
        assert_eq!(ours, line);
    }
    seen.sort();
    assert_eq!(seen, ApiKey::ALL);
}

#[test]
fn the_table_of_errors_is_kafkas() {
    let table = String::from_utf8(java(&["errors"], b"")).unwrap();
    let ours: String = ErrorCode::ALL
        .iter()
        .map(|code| {
            format!(
                "{} {} {} {}\n",
                code.code(),
                code.name(),
                code.retriable(),
                code.refreshes_metadata()
            )
        })
        .collect();
    assert_eq!(ours, table);
}
