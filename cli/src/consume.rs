//! `ottla consume`: the records of a topic on standard output.
//!
//! In: a topic, where to begin and when to end. Out: records as text or JSON. It reads by assigned partitions, so it
//! never disturbs a consumer group. It ends at Ctrl-C, after `--max-messages`, after `--timeout-ms` without a record, or
//! when its reader has gone away.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use ottla::{Consumer, ConsumerRecords, TimestampType, TopicPartition};

use crate::connection::ConnectionArguments;
use crate::output::{Format, PrintedRecord, Printer};
use crate::summary::counted;
use crate::{Failure, Outcome};

/// Print the records of a topic.
#[derive(Args, Debug)]
pub struct ConsumeArguments {
    #[command(flatten)]
    connection: ConnectionArguments,

    /// The topic to read.
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// Begin with the earliest record instead of those written from now on.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Read this partition only.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Begin here: earliest, latest, an offset (with --partition; a negative one counts from the end), or
    /// timestamp:MILLISECONDS.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
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

/// Reads and prints until one of the ends is reached.
pub async fn run(arguments: ConsumeArguments) -> Outcome {
    let begin = begin_of(&arguments)?;
    let printer = Printer::new(arguments.format, &arguments.properties)?;
    let mut pairs = arguments.connection.pairs(&arguments.consumer_properties)?;
    if let Some(level) = &arguments.isolation_level {
        pairs.push(("isolation.level".into(), level.clone()));
    }
    let mut consumer = Consumer::from_properties(pairs)?.build().await?;
    let partitions = partitions_of(&consumer, &arguments).await?;
    consumer.assign(&partitions)?;
    place(&consumer, &partitions, &begin).await?;
    let mut count = 0;
    let printed = tokio::select! {
        printed = print_all(&mut consumer, &arguments, &printer, &mut count) => printed,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    consumer.close(Duration::from_secs(10)).await;
    if !arguments.quiet {
        eprintln!("{} read", counted(count, "record"));
    }
    printed
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
    match arguments.partition {
        Some(partition) => Ok(vec![TopicPartition::new(arguments.topic.as_str(), partition)]),
        None => Ok(consumer.partitions_for(&arguments.topic).await?),
    }
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
        let records = match arguments.timeout_ms {
            None => consumer.poll().await?,
            Some(limit) => match tokio::time::timeout(Duration::from_millis(limit), consumer.poll()).await {
                Ok(records) => records?,
                Err(_) => break,
            },
        };
        let Some(records) = records else { break };
        buffer.clear();
        *count += print_some(&records, limit - *count, printer, &mut buffer);
        if let Err(error) = write_out(&buffer) {
            // The reader has gone (`| head`): the end, not a failure.
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                break;
            }
            return Err(error.into());
        }
    }
    Ok(())
}

fn print_some(records: &ConsumerRecords, most: u64, printer: &Printer, buffer: &mut Vec<u8>) -> u64 {
    let mut count = 0;
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
        count += 1;
    }
    count
}

fn write_out(buffer: &[u8]) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(buffer)?;
    output.flush()
}
