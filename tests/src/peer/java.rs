//! Kafka's own command line tools (4.3.1), run in one JVM by `tests/java/Driver.java`.
//!
//! The console producer cannot set timestamps and does not tell where a record went. It takes text only: no byte of a
//! key, value or header may be one of the separators below.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::lines::{Lines, from_hex, to_hex};
use super::{Client, Content, Failure, Header, Incoming, Outgoing, Receipt};
use crate::place;
use crate::secured::Access;

const NULL: &str = "<NULL>";
const FIELD: &str = "<|>";
const HEADER: &str = "<&>";
const RECORD: &str = "<$>\n";

/// The JVM with the tools.
#[derive(Clone)]
pub struct JavaTools {
    lines: Arc<Lines>,
    /// A file of further properties for the tools' clients.
    config: Option<Arc<NamedTempFile>>,
}

/// What a tool left when it exited.
pub struct Outcome {
    /// Its exit code.
    pub exit: i64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output, if the tool succeeded.
    ///
    /// # Errors
    /// Exit code and all output otherwise.
    pub fn success(self) -> Result<String, Failure> {
        let stdout = String::from_utf8_lossy(&self.stdout).into_owned();
        if self.exit == 0 {
            Ok(stdout)
        } else {
            Err(format!("exit {}: {stdout}{}", self.exit, self.stderr))
        }
    }
}

/// Where Kafka's jars are.
pub fn jars() -> PathBuf {
    place::peer("kafka-4.3.1")
}

/// A `java` command whose class path holds the compiled `Driver` and all jars but that of the tools, which the driver
/// loads afresh for each run.
///
/// # Panics
/// When `Driver.java` does not compile.
pub fn driver() -> Command {
    driver_with_heap("512m")
}

/// Like [`driver`], with so much heap at most.
///
/// # Panics
/// When `Driver.java` does not compile.
pub fn driver_with_heap(heap: &str) -> Command {
    static CLASSES: OnceLock<String> = OnceLock::new();
    let class_path = CLASSES.get_or_init(|| {
        let mut entries = vec![];
        for entry in std::fs::read_dir(jars()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".jar") && !name.starts_with("kafka-tools-4") {
                entries.push(entry.path().display().to_string());
            }
        }
        // One folder a process: test programs may compile at the same time.
        let classes = place::target().join("ottla-java").join(std::process::id().to_string());
        let _ = std::fs::create_dir_all(&classes);
        let compiled = Command::new("javac")
            .arg("-d")
            .arg(&classes)
            .args(["-cp", &entries.join(":")])
            .arg(place::repository().join("tests/java/Driver.java"))
            .status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "tests/java/Driver.java does not compile"
        );
        entries.insert(0, classes.display().to_string());
        entries.join(":")
    });
    let mut command = Command::new("java");
    // The quick compiler and the plain collector: these JVMs live for seconds and share two cores with everything else.
    command
        .arg(format!("-Xmx{heap}"))
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    let logging = place::repository().join("tests/java/log4j2.properties");
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command.args(["-cp", class_path, "Driver"]);
    command
}

impl JavaTools {
    /// Starts the JVM.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<JavaTools, Failure> {
        let tools = jars().join("kafka-tools-4.3.1.jar");
        let lines = Lines::start("the Java tools", driver().arg("tools").arg(tools))?;
        Ok(JavaTools {
            lines: Arc::new(lines),
            config: None,
        })
    }

    /// The same JVM; the clients of its tools come in by `access`.
    ///
    /// # Errors
    /// When the file with the properties cannot be written.
    pub fn secured(&self, access: &Access) -> Result<JavaTools, Failure> {
        let io = |error: std::io::Error| error.to_string();
        let file = NamedTempFile::new().map_err(io)?;
        // A tool that is not let in gives up soon.
        let text =
            access.properties_text() + "default.api.timeout.ms=10000\nrequest.timeout.ms=8000\nmax.block.ms=30000\n";
        std::fs::write(file.path(), text).map_err(io)?;
        Ok(JavaTools {
            lines: Arc::clone(&self.lines),
            config: Some(Arc::new(file)),
        })
    }

    /// `--command-config FILE`, if the clients are to have further properties.
    fn command_config(&self) -> Vec<String> {
        let file = self.config.as_ref().map(|file| file.path().display().to_string());
        file.map(|file| vec!["--command-config".to_owned(), file])
            .unwrap_or_default()
    }

    /// Runs the main class `main` with `args`, `stdin` as its standard input.
    ///
    /// # Errors
    /// When the JVM is gone. A tool that fails is an [`Outcome`].
    pub fn run(&self, main: &str, args: &[&str], stdin: &[u8]) -> Result<Outcome, Failure> {
        let answer = self
            .lines
            .ask(&json!({"main": main, "args": args, "stdin": to_hex(stdin)}))?;
        let bytes = |name: &str| from_hex(answer.get(name).and_then(Value::as_str).unwrap_or_default());
        Ok(Outcome {
            exit: answer.get("exit").and_then(Value::as_i64).unwrap_or(-1),
            stdout: bytes("stdout")?,
            stderr: String::from_utf8_lossy(&bytes("stderr")?).into_owned(),
        })
    }

    /// `kafka-topics --bootstrap-server BOOTSTRAP ARGS`.
    ///
    /// # Errors
    /// When the tool fails: all it wrote.
    pub fn topics(&self, bootstrap: &str, args: &[&str]) -> Result<String, Failure> {
        let config = self.command_config();
        let config: Vec<&str> = config.iter().map(String::as_str).collect();
        let all = [&["--bootstrap-server", bootstrap], &config[..], args].concat();
        self.run("org.apache.kafka.tools.TopicCommand", &all, b"")?.success()
    }

    /// `kafka-producer-perf-test`: `count` records of 100 bytes, so many in a second.
    ///
    /// # Errors
    /// When the tool fails, or reports a record that failed.
    pub fn produce_slowly(&self, bootstrap: &str, topic: &str, count: u32, a_second: u32) -> Result<(), Failure> {
        let (count, rate) = (count.to_string(), a_second.to_string());
        let config = self.command_config();
        #[rustfmt::skip]
        let mut args = vec![
            "--bootstrap-server", bootstrap, "--topic", topic, "--num-records", &count, "--record-size", "100",
            "--throughput", &rate,
        ];
        args.extend(config.iter().map(String::as_str));
        let outcome = self.run("org.apache.kafka.tools.ProducerPerformance", &args, b"")?;
        if outcome.stderr.contains("Exception") {
            return Err(outcome.stderr);
        }
        outcome.success().map(drop)
    }

    /// `kafka-dump-log ARGS`: what it wrote, complaints included; it succeeds on broken files too.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn dump_log(&self, args: &[&str]) -> Result<String, Failure> {
        let outcome = self.run("org.apache.kafka.tools.DumpLogSegments", args, b"")?;
        let complaints = outcome.stderr.clone();
        outcome.success().map(|said| said + &complaints)
    }
}

impl Client for JavaTools {
    fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        records: &[Outgoing],
    ) -> Result<Option<Vec<Receipt>>, Failure> {
        let mut lines = vec![];
        for record in records {
            line_of(&record.content, &mut lines);
        }
        let null = format!("null.marker={NULL}");
        let config = self.command_config();
        #[rustfmt::skip]
        let mut args = vec![
            "--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", codec,
            "--command-property", "acks=all",
            "--reader-property", "parse.key=true",
            "--reader-property", "parse.headers=true",
            "--reader-property", &null,
        ];
        args.extend(config.iter().map(String::as_str));
        let outcome = self.run("org.apache.kafka.tools.ConsoleProducer", &args, &lines)?;
        // The tool reports a failed send on standard error only.
        if outcome.exit != 0 || outcome.stderr.contains("Error when sending") {
            return Err(format!("console producer, exit {}: {}", outcome.exit, outcome.stderr));
        }
        Ok(None)
    }

    fn consume(&self, bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure> {
        if count == 0 {
            return Ok(vec![]);
        }
        let (partition, count_text) = (partition.to_string(), count.to_string());
        let properties = [
            "print.timestamp=true".to_owned(),
            "print.offset=true".to_owned(),
            "print.headers=true".to_owned(),
            "print.key=true".to_owned(),
            "print.value=true".to_owned(),
            format!("key.separator={FIELD}"),
            format!("headers.separator={HEADER}"),
            format!("line.separator={RECORD}"),
            format!("null.literal={NULL}"),
        ];
        #[rustfmt::skip]
        let mut args = vec![
            "--bootstrap-server", bootstrap, "--topic", topic, "--partition", &partition, "--offset", "earliest",
            "--max-messages", &count_text, "--timeout-ms", "30000",
        ];
        let config = self.command_config();
        args.extend(config.iter().map(String::as_str));
        for property in &properties {
            args.extend(["--formatter-property", property]);
        }
        let outcome = self.run("org.apache.kafka.tools.consumer.ConsoleConsumer", &args, b"")?;
        let records: Vec<Incoming> = split(&outcome.stdout, RECORD)
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(record_of)
            .collect::<Result<_, _>>()?;
        if outcome.exit != 0 || records.len() != count {
            return Err(format!(
                "console consumer, exit {}, {} records: {}",
                outcome.exit,
                records.len(),
                outcome.stderr
            ));
        }
        Ok(records)
    }
}

/// `h1:v1,h2:v2<tab>key<tab>value<newline>`
fn line_of(content: &Content, line: &mut Vec<u8>) {
    let or_null = |bytes: &Option<Vec<u8>>| bytes.clone().unwrap_or_else(|| NULL.as_bytes().to_vec());
    if content.headers.is_empty() {
        line.extend_from_slice(NULL.as_bytes());
    }
    for (at, (key, value)) in content.headers.iter().enumerate() {
        if at > 0 {
            line.push(b',');
        }
        line.extend_from_slice(key.as_bytes());
        line.push(b':');
        line.extend_from_slice(&or_null(value));
    }
    line.push(b'\t');
    line.extend_from_slice(&or_null(&content.key));
    line.push(b'\t');
    line.extend_from_slice(&or_null(&content.value));
    line.push(b'\n');
}

/// `CreateTime:1<|>Offset:0<|>h1:v1<&>h2:v2<|>key<|>value`
fn record_of(text: &[u8]) -> Result<Incoming, Failure> {
    let broken = || format!("console consumer printed {:?}", String::from_utf8_lossy(text));
    let fields = split(text, FIELD);
    let [timestamp, offset, headers, key, value] = fields.as_slice() else {
        return Err(broken());
    };
    let number = |field: &[u8]| {
        let text = std::str::from_utf8(field).ok()?;
        text.split_once(':')?.1.parse::<i64>().ok()
    };
    let nullable = |field: &[u8]| {
        if field == NULL.as_bytes() {
            None
        } else {
            Some(field.to_vec())
        }
    };
    let headers = if *headers == b"NO_HEADERS" {
        vec![]
    } else {
        split(headers, HEADER)
            .into_iter()
            .map(|field| header_of(field, nullable))
            .collect::<Result<Vec<Header>, _>>()?
    };
    Ok(Incoming {
        offset: number(offset).ok_or_else(broken)?,
        timestamp: number(timestamp).ok_or_else(broken)?,
        content: Content {
            key: nullable(key),
            value: nullable(value),
            headers,
        },
    })
}

fn header_of(field: &[u8], nullable: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Header, Failure> {
    let colon = field
        .iter()
        .position(|byte| *byte == b':')
        .ok_or("a header without a colon")?;
    Ok((
        String::from_utf8_lossy(&field[..colon]).into_owned(),
        nullable(&field[colon + 1..]),
    ))
}

fn split<'a>(text: &'a [u8], separator: &str) -> Vec<&'a [u8]> {
    let separator = separator.as_bytes();
    let mut parts = vec![];
    let mut rest = text;
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}
