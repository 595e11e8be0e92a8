//! `ottla consume`: the records of topics on standard output.
//!
//! In: topics, where to begin and when to end. Out: records as text or JSON. Without `--group` it reads by assigned
//! partitions and never disturbs a consumer group. With it it is a member, shares the partitions with the others, and commits
//! what was printed and nothing else. It ends at Ctrl-C, after `--max-messages`, after `--timeout-ms` without a record, or
//! when its reader has gone away.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use ottla::{
    Consumer, ConsumerRecords, ErrorCode, ErrorKind, Rebalance, RebalanceListener, TimestampType, TopicPartition,
};

use crate::connection::ConnectionArguments;
use crate::output::{Format, PrintedRecord, Printer};
use crate::summary::counted;
use crate::{Failure, Outcome};

/// Print the records of topics.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["topic", "include"]))]
pub struct ConsumeArguments {
    #[command(flatten)]
    connection: ConnectionArguments,

    /// The topic to read; may be repeated.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// With --group: all topics whose name matches this regular expression, those of later days too.
    #[arg(long, value_name = "PATTERN", requires = "group")]
    include: Option<String>,
    /// Read as a member of this group: share the partitions, go on where the group was, commit what is printed.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Begin with the earliest record instead of those written from now on; with --group, where nothing is committed.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Read this partition only.
    #[arg(long, value_name = "N", conflicts_with = "group")]
    partition: Option<i32>,
    /// Begin here: earliest, latest, an offset (with --partition; a negative one counts from the end), or
    /// timestamp:MILLISECONDS.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, conflicts_with = "group")]
    offset: Option<String>,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,
    /// End when no record has come for this long.
    #[arg(long, value_name = "MILLISECONDS")]
    timeout_ms: Option<u64>,
    /// How records are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What text prints: print.key, print.headers, print.timestamp, print.offset, print.partition, print.value,
    /// key.separator, line.separator, headers.separator, null.literal; may be repeated.
    #[arg(long = "property", visible_alias = "formatter-property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// A setting of the consumer by Kafka's key; may be repeated.
    #[arg(
        long = "consumer-property",
        visible_alias = "command-property",
        value_name = "KEY=VALUE"
    )]
    consumer_properties: Vec<String>,
    /// Only committed transactions, or all records.
    #[arg(long, value_name = "read_committed|read_uncommitted")]
    isolation_level: Option<String>,
    /// No count at the end.
    #[arg(long)]
    quiet: bool,
}

/// Where reading begins.
#[derive(Debug, PartialEq, Eq)]
enum Begin {
    Earliest,
    Latest,
    Offset(i64),
    FromEnd(i64),
    Timestamp(i64),
}

/// How long the end may take: to commit what was printed, and to leave the group.
const CLOSING: Duration = Duration::from_secs(10);

/// Tells on standard error what a member reads.
struct Told;

impl RebalanceListener for Told {
    fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
        tell("assigned", rebalance.partitions());
    }

    fn on_partitions_revoked(&self, rebalance: &Rebalance<'_>) {
        tell("given up", rebalance.partitions());
    }

    fn on_partitions_lost(&self, rebalance: &Rebalance<'_>) {
        tell("lost", rebalance.partitions());
    }
}

fn tell(what: &str, partitions: &[TopicPartition]) {
    if !partitions.is_empty() {
        let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        eprintln!("{what}: {}", names.join(", "));
    }
}

/// Reads and prints until one of the ends is reached.
pub async fn run(arguments: ConsumeArguments) -> Outcome {
    let begin = begin_of(&arguments)?;
    let printer = Printer::new(arguments.format, &arguments.properties)?;
    let mut pairs = arguments.connection.pairs(&arguments.consumer_properties)?;
    if let Some(level) = &arguments.isolation_level {
        pairs.push(("isolation.level".into(), level.clone()));
    }
    let mut consumer = if let Some(group) = &arguments.group {
        member(pairs, group, &arguments).await?
    } else {
        let consumer = Consumer::from_properties(pairs)?.build().await?;
        let partitions = partitions_of(&consumer, &arguments).await?;
        consumer.assign(&partitions)?;
        place(&consumer, &partitions, &begin).await?;
        consumer
    };
    let mut count = 0;
    let printed = tokio::select! {
        printed = print_all(&mut consumer, &arguments, &printer, &mut count) => printed,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    let closed = consumer.close(CLOSING).await;
    if !arguments.quiet {
        eprintln!("{} read", counted(count, "record"));
    }
    printed?;
    match closed.error {
        Some(error) => Err(Failure::new(format!(
            "what was printed could not be committed: {error}"
        ))),
        None if !closed.finished => Err(Failure::new(
            "the group could not be left in time; it waits for this member's session to end",
        )),
        None => Ok(()),
    }
}

/// A consumer that is a member of `group`.
async fn member(
    mut pairs: Vec<(String, String)>,
    group: &str,
    arguments: &ConsumeArguments,
) -> Result<Consumer, Failure> {
    pairs.push(("group.id".into(), group.to_owned()));
    // What counts is printed, not what was handed over: a limit may cut a poll's records short.
    pairs.push(("enable.auto.offset.store".into(), "false".into()));
    if arguments.from_beginning {
        pairs.push(("auto.offset.reset".into(), "earliest".into()));
    }
    let mut builder = Consumer::from_properties(pairs)?;
    builder = match &arguments.include {
        Some(pattern) => builder.topic_pattern(pattern.as_str()),
        None => builder.topics(arguments.topic.iter().map(String::as_str)),
    };
    if !arguments.quiet {
        builder = builder.rebalance_listener(Told);
    }
    Ok(builder.build().await?)
}

fn begin_of(arguments: &ConsumeArguments) -> Result<Begin, Failure> {
    let Some(text) = &arguments.offset else {
        return Ok(if arguments.from_beginning {
            Begin::Earliest
        } else {
            Begin::Latest
        });
    };
    let begin = match text.as_str() {
        "earliest" => Begin::Earliest,
        "latest" => Begin::Latest,
        other => match (other.strip_prefix("timestamp:"), other.parse::<i64>()) {
            (Some(time), _) => Begin::Timestamp(time.parse().map_err(|_| {
                Failure::new(format!(
                    "--offset timestamp: takes milliseconds since 1970, not '{time}'"
                ))
            })?),
            (None, Ok(offset)) if offset >= 0 => Begin::Offset(offset),
            (None, Ok(offset)) => Begin::FromEnd(-offset),
            (None, Err(_)) => {
                return Err(Failure::new(format!(
                    "--offset takes earliest, latest, a number or timestamp:MILLISECONDS, not '{other}'"
                )));
            }
        },
    };
    if matches!(begin, Begin::Offset(_)) && arguments.partition.is_none() {
        return Err(Failure::new("an offset belongs to one partition: add --partition N"));
    }
    Ok(begin)
}

async fn partitions_of(consumer: &Consumer, arguments: &ConsumeArguments) -> Result<Vec<TopicPartition>, Failure> {
    let mut partitions = Vec::new();
    for topic in &arguments.topic {
        match arguments.partition {
            Some(partition) => partitions.push(TopicPartition::new(topic.as_str(), partition)),
            None => partitions.extend(consumer.partitions_for(topic).await?),
        }
    }
    Ok(partitions)
}

async fn place(consumer: &Consumer, partitions: &[TopicPartition], begin: &Begin) -> Outcome {
    if let Begin::FromEnd(count) = begin {
        let earliest = consumer.beginning_offsets(partitions).await?;
        for (partition, end) in consumer.end_offsets(partitions).await? {
            let first = earliest.get(&partition).copied().unwrap_or(0);
            consumer.seek(&partition, end.saturating_sub(*count).max(first))?;
        }
        return Ok(());
    }
    for partition in partitions {
        match begin {
            Begin::Earliest => consumer.seek_to_beginning(partition)?,
            Begin::Latest | Begin::FromEnd(_) => consumer.seek_to_end(partition)?,
            Begin::Timestamp(time) => consumer.seek_to_timestamp(partition, *time)?,
            Begin::Offset(offset) => consumer.seek(partition, *offset)?,
        }
    }
    Ok(())
}

/// Prints until an end is reached; `count` stays right when Ctrl-C drops this future.
async fn print_all(
    consumer: &mut Consumer,
    arguments: &ConsumeArguments,
    printer: &Printer,
    count: &mut u64,
) -> Outcome {
    let limit = arguments.max_messages.unwrap_or(u64::MAX);
    let mut buffer = Vec::new();
    while *count < limit {
        let polled = match arguments.timeout_ms {
            None => consumer.poll().await,
            Some(limit) => match tokio::time::timeout(Duration::from_millis(limit), consumer.poll()).await {
                Ok(polled) => polled,
                Err(_) => break,
            },
        };
        let records = match polled {
            Ok(Some(records)) => records,
            Ok(None) => break,
            // A reader that is slower than max.poll.interval.ms loses its place in the group, and comes back by polling.
            Err(error) if arguments.group.is_some() && comes_back(&error) => {
                eprintln!("ottla: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        buffer.clear();
        let (printed, next) = print_some(&records, limit - *count, printer, &mut buffer);
        if let Err(error) = write_out(&buffer) {
            // The reader has gone (`| head`): the end, not a failure.
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                break;
            }
            return Err(error.into());
        }
        *count += printed;
        if arguments.group.is_some() {
            store(consumer, next)?;
        }
    }
    Ok(())
}

/// Whether the membership is lost and the next poll asks for a new one. Another process that goes by the same
/// `group.instance.id` is no reason to fight it.
fn comes_back(error: &ottla::Error) -> bool {
    error.kind() == ErrorKind::Fenced && error.code() != Some(ErrorCode::FencedInstanceId)
}

/// Says that what was printed is done. A partition that went to another member meanwhile is printed again there.
fn store(consumer: &Consumer, next: BTreeMap<TopicPartition, i64>) -> Outcome {
    match consumer.store_offsets(next) {
        Err(error) if error.kind() == ErrorKind::Fenced => {
            eprintln!("ottla: {error}");
            Ok(())
        }
        stored => Ok(stored?),
    }
}

/// Prints up to `most` records; gives their count, and for each partition the offset after its last one.
fn print_some(
    records: &ConsumerRecords,
    most: u64,
    printer: &Printer,
    buffer: &mut Vec<u8>,
) -> (u64, BTreeMap<TopicPartition, i64>) {
    let mut count = 0;
    let mut next = BTreeMap::new();
    for record in records.iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
        let printed = PrintedRecord {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            log_append_time: record.timestamp_type() == TimestampType::LogAppendTime,
            key: record.key(),
            value: record.value(),
            headers: record
                .headers()
                .flatten()
                .map(|header| (header.key, header.value))
                .collect(),
        };
        printer.print(&printed, buffer);
        match next.get_mut(record.topic_partition()) {
            Some(offset) => *offset = record.offset() + 1,
            None => drop(next.insert(record.topic_partition().clone(), record.offset() + 1)),
        }
        count += 1;
    }
    (count, next)
}

fn write_out(buffer: &[u8]) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(buffer)?;
    output.flush()
}
