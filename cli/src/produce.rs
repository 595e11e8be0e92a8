//! `ottla produce`: lines of standard input or of a file become records of a topic.
//!
//! In: lines, cut by Kafka's console properties. Out: a summary on standard error (delivered, failed, unknown), and exit
//! code 1 if anything was not delivered. Nothing is dropped silently: a line that cannot be read ends the command after
//! what was sent before it has been settled, unless `--reader-property ignore.error=true` says to skip it (skipped lines
//! are counted). Ctrl-C ends the reading, not the sending; a second one ends the command.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ottla::config::Properties;
use ottla::{Delivery, Producer, Record};
use tokio::sync::mpsc;

use crate::connection::ConnectionArguments;
use crate::lines::{LineFormat, boolean};
use crate::producer_options::ProducerOptions;
use crate::summary::{counted, grouped, rates};
use crate::{Failure, Outcome};

/// Lines handed over at once by the reading thread.
const LINES_PER_CHUNK: usize = 1024;
/// Tickets held before the oldest is waited for; bounds the command's memory, not the producer's.
const OUTSTANDING_TICKETS: usize = 200_000;
/// The exit code of a command that Ctrl-C ended: 128 and the signal's number.
const GIVEN_UP: i32 = 130;

/// Write lines of standard input or of a file to a topic.
#[derive(Args, Debug)]
pub struct ProduceArguments {
    #[command(flatten)]
    connection: ConnectionArguments,

    /// The topic to write to.
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// Read lines from here instead of standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How lines are cut: parse.key, key.separator, parse.headers, headers.delimiter, headers.separator,
    /// headers.key.separator, null.marker, ignore.error; may be repeated.
    #[arg(long = "reader-property", visible_alias = "property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// A file of the same; --reader-property wins.
    #[arg(long, value_name = "FILE")]
    reader_config: Option<PathBuf>,
    /// A setting of the producer by Kafka's key; may be repeated.
    #[arg(
        long = "producer-property",
        visible_alias = "command-property",
        value_name = "KEY=VALUE"
    )]
    producer_properties: Vec<String>,
    /// Always this partition.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Wait for each record's answer before the next is sent.
    #[arg(long)]
    sync: bool,
    /// No summary and no progress bar.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    options: ProducerOptions,
}

/// What happened to the lines.
#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    bytes: u64,
    /// Certainly not written.
    failed: u64,
    /// Possibly written.
    unknown: u64,
    skipped: u64,
    first_error: Option<String>,
}

/// Reads to the end of the input, then waits until every record's fate is known.
pub async fn run(arguments: ProduceArguments) -> Outcome {
    let (format, ignore_errors) = line_format(&reader_properties(&arguments)?)?;
    let mut pairs = arguments.connection.pairs(&arguments.producer_properties)?;
    pairs.extend(arguments.options.pairs());
    let (input, size) = open_input(arguments.file.as_ref())?;
    let progress = progress_bar(size, arguments.quiet);
    let producer = Producer::from_properties(pairs)?.build().await?;
    let started = Instant::now();
    let mut tally = Tally::default();
    let read = send_lines(
        &producer,
        &arguments,
        &format,
        ignore_errors,
        input,
        &progress,
        &mut tally,
    )
    .await;
    let closed = producer.close(Duration::from_secs(150)).await;
    progress.finish_and_clear();
    if !arguments.quiet {
        report(&tally, started.elapsed());
    }
    read?;
    closed?;
    match tally.failed + tally.unknown {
        0 => Ok(()),
        lost => Err(Failure::new(format!(
            "{} not delivered ({} of them possibly written); the first: {}",
            counted(lost, "record"),
            grouped(tally.unknown),
            tally.first_error.as_deref().unwrap_or("no reason given")
        ))),
    }
}

/// Those of the file, then those of the command line: the last one counts.
fn reader_properties(arguments: &ProduceArguments) -> Result<Vec<String>, Failure> {
    let mut properties = Vec::new();
    if let Some(path) = &arguments.reader_config {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        let pairs = Properties::parse(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        properties.extend(pairs.into_iter().map(|(key, value)| format!("{key}={value}")));
    }
    properties.extend(arguments.properties.iter().cloned());
    Ok(properties)
}

fn line_format(properties: &[String]) -> Result<(LineFormat, bool), Failure> {
    let mut ignore_errors = false;
    let mut others = Vec::new();
    for property in properties {
        match property.split_once('=') {
            Some(("ignore.error", value)) => ignore_errors = boolean("ignore.error", value)?,
            _ => others.push(property.clone()),
        }
    }
    Ok((LineFormat::from_properties(&others)?, ignore_errors))
}

fn open_input(file: Option<&PathBuf>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let Some(path) = file else {
        return Ok((Box::new(std::io::stdin()), None));
    };
    let file =
        std::fs::File::open(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let size = file.metadata().ok().map(|metadata| metadata.len());
    Ok((Box::new(file), size))
}

fn progress_bar(size: Option<u64>, quiet: bool) -> ProgressBar {
    if quiet || size.is_none() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size.unwrap_or(0)).with_style(style)
}

/// One chunk of the input: lines with their first line's number, or the reason why reading ended.
type Chunk = Result<(u64, Vec<String>), Failure>;

/// Reads lines on a thread of its own: standard input blocks, and a blocked runtime thread would stop the producer.
fn read_lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(256 * 1024, input);
        let (mut first, mut number) = (1_u64, 0_u64);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) => break,
                Ok(_) => {
                    number += 1;
                    trim_line_end(&mut line);
                    lines.push(line);
                }
                Err(error) => {
                    let _ = sender.blocking_send(Ok((first, std::mem::take(&mut lines))));
                    let _ = sender.blocking_send(Err(Failure::new(format!("line {}: {error}", number + 1))));
                    return;
                }
            }
            // A person typing wants each line to leave; a file wants large chunks.
            if lines.len() >= LINES_PER_CHUNK || reader.buffer().is_empty() {
                if sender.blocking_send(Ok((first, std::mem::take(&mut lines)))).is_err() {
                    return;
                }
                first = number + 1;
            }
        }
        let _ = sender.blocking_send(Ok((first, lines)));
    });
    receiver
}

fn trim_line_end(line: &mut String) {
    if line.ends_with('\n') {
        line.pop();
        if line.ends_with('\r') {
            line.pop();
        }
    }
}

async fn send_lines(
    producer: &Producer,
    arguments: &ProduceArguments,
    format: &LineFormat,
    ignore_errors: bool,
    input: Box<dyn Read + Send>,
    progress: &ProgressBar,
    tally: &mut Tally,
) -> Outcome {
    let mut outstanding = VecDeque::new();
    let mut chunks = read_lines(input);
    let mut ended = Ok(());
    let mut interrupted = std::pin::pin!(interruption());
    'reading: loop {
        let chunk = tokio::select! {
            chunk = chunks.recv() => chunk,
            () = &mut interrupted => break,
        };
        let Some(chunk) = chunk else { break };
        let (first, lines) = match chunk {
            Ok(chunk) => chunk,
            Err(failure) => {
                ended = Err(failure);
                break;
            }
        };
        for (line, number) in lines.iter().zip(first..) {
            match send_line(producer, arguments, format, line, number).await {
                Ok((delivery, size)) => outstanding.push_back((delivery, size)),
                Err(SendFailure::Line(_)) if ignore_errors => tally.skipped += 1,
                Err(SendFailure::Line(failure)) => {
                    ended = Err(failure);
                    break 'reading;
                }
                Err(SendFailure::Send(error)) => tally.failure(&error),
            }
            if arguments.sync || outstanding.len() >= OUTSTANDING_TICKETS {
                settle_oldest(&mut outstanding, tally).await;
            }
            progress.inc(line.len() as u64 + 1);
        }
    }
    while !outstanding.is_empty() {
        settle_oldest(&mut outstanding, tally).await;
    }
    ended
}

/// Done with the first Ctrl-C; from then on a second one ends the command at once.
async fn interruption() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler Ctrl-C ends the command anyway.
        return std::future::pending().await;
    }
    eprintln!("ottla: reading has ended; waiting for what was sent (Ctrl-C again to give it up)");
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(GIVEN_UP);
        }
    });
}

enum SendFailure {
    Line(Failure),
    Send(ottla::Error),
}

async fn send_line(
    producer: &Producer,
    arguments: &ProduceArguments,
    format: &LineFormat,
    line: &str,
    number: u64,
) -> Result<(Delivery, u64), SendFailure> {
    let parsed = format.parse(line, number).map_err(SendFailure::Line)?;
    let mut record = Record::to(&arguments.topic);
    if let Some(partition) = arguments.partition {
        record = record.partition(partition);
    }
    if let Some(key) = parsed.key {
        record = record.key(key);
    }
    if let Some(value) = parsed.value {
        record = record.value(value);
    }
    for (name, value) in &parsed.headers {
        record = match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        };
    }
    let delivery = producer.send(record).await.map_err(SendFailure::Send)?;
    Ok((delivery, line.len() as u64))
}

async fn settle_oldest(outstanding: &mut VecDeque<(Delivery, u64)>, tally: &mut Tally) {
    if let Some((delivery, size)) = outstanding.pop_front() {
        match delivery.await {
            Ok(_) => {
                tally.delivered += 1;
                tally.bytes += size;
            }
            Err(error) => tally.failure(&error),
        }
    }
}

impl Tally {
    fn failure(&mut self, error: &ottla::Error) {
        match error.persisted() {
            ottla::Persisted::No => self.failed += 1,
            _ => self.unknown += 1,
        }
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

fn report(tally: &Tally, elapsed: Duration) {
    let mut text = format!(
        "{} delivered, {} failed, {} unknown",
        counted(tally.delivered, "record"),
        grouped(tally.failed),
        grouped(tally.unknown)
    );
    if tally.skipped > 0 {
        text += &format!(", {} skipped", counted(tally.skipped, "line"));
    }
    eprintln!(
        "{text} in {:.2} s ({})",
        elapsed.as_secs_f64(),
        rates(tally.delivered, tally.bytes, elapsed)
    );
}
