//! The `ottla` command: a broker, topics, the console producer and consumer, consumer groups, load, and a demonstration.
//!
//! In: Kafka's own option names. Out: what was asked for on standard output, everything else on standard error, and an
//! exit code that a script can trust: 0 all done, 1 something was not done (the text says what), 2 the command line is wrong.
//! It uses nothing but the public interfaces of the client and the broker.

mod broker;
mod connection;
mod consume;
mod demo;
mod groups;
mod lines;
mod output;
mod payload;
mod perf;
mod produce;
mod producer_options;
mod summary;
mod table;
mod top;
mod topics;

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What a subcommand ends with: nothing, or the text for the person at the terminal.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a subcommand did not do all that it was asked to.
#[derive(Debug)]
pub(crate) struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Errors often carry their cause in their own text; saying it twice helps nobody.
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Failure(text)
    }
}

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }
}

/// Brokers, topics, records: Ottla's command.
#[derive(Parser)]
#[command(name = "ottla", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a broker.
    Broker(broker::BrokerArguments),
    /// Create, list, describe, alter or delete topics.
    Topics(topics::TopicsArguments),
    /// Write lines of standard input or of a file to a topic.
    Produce(produce::ProduceArguments),
    /// Print the records of a topic.
    Consume(consume::ConsumeArguments),
    /// List, describe, reset or delete consumer groups.
    Groups(groups::GroupsArguments),
    /// Watch brokers, topics and groups.
    Top(top::TopArguments),
    /// Measure producing or consuming.
    Perf(perf::PerfArguments),
    /// Show the whole way of real GPS tracks through a broker of its own.
    Demo(demo::DemoArguments),
}

/// Runs the command with these arguments, the first of which is its own name, and gives the code to exit with. It may start
/// threads that are still there afterwards, so the process should exit then.
///
/// The other users of this library are packages that carry the command inside.
pub fn run(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => {
            // Help and the version are "errors" to be printed as well. There is no other place to say that printing failed.
            let _ = told.print();
            return if told.use_stderr() { 2 } else { 0 };
        }
    };
    start_logging(match &cli.command {
        Command::Broker(_) => usual_log(true),
        // Lines of a log would stand in the middle of the screen; what goes wrong is shown there.
        Command::Top(top) if !top.once => Targets::new(),
        _ => usual_log(false),
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ottla: cannot start: {error}");
            return 1;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Broker(arguments) => broker::run(arguments).await,
            Command::Topics(arguments) => topics::run(arguments).await,
            Command::Produce(arguments) => produce::run(arguments).await,
            Command::Consume(arguments) => consume::run(arguments).await,
            Command::Groups(arguments) => groups::run(arguments).await,
            Command::Top(arguments) => top::run(arguments).await,
            Command::Perf(arguments) => perf::run(arguments).await,
            Command::Demo(arguments) => demo::run(arguments).await,
        }
    });
    // A reader thread may still sit in a blocking read of the terminal; waiting for it would hang the command.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => 0,
        Err(Failure(text)) => {
            eprintln!("ottla: {text}");
            1
        }
    }
}

/// Logs go to standard error; `RUST_LOG` chooses what, by default warnings and, of a broker process, its milestones.
fn start_logging(usual: Targets) {
    let told = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted = asked_log(&told).unwrap_or_else(|not_understood| {
        eprintln!("ottla: {not_understood}");
        None
    });
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines)
        .with(wanted.unwrap_or(usual))
        .try_init()
        // Somebody logs already, in his own way.
        .unwrap_or_default();
}

/// What `RUST_LOG` asks for, if it asks for anything: levels and targets, as in `warn,ottla_broker::handlers=debug`.
fn asked_log(told: &str) -> Result<Option<Targets>, String> {
    if told.trim().is_empty() {
        return Ok(None);
    }
    let targets = told.parse().map_err(|error| {
        format!("RUST_LOG={told} has no effect: {error}; it takes levels and targets, as in warn,ottla_broker=debug")
    })?;
    Ok(Some(targets))
}

/// What is logged when nobody has asked for anything else.
fn usual_log(broker: bool) -> Targets {
    let targets = Targets::new().with_default(LevelFilter::WARN);
    if broker {
        targets.with_target("ottla_broker", LevelFilter::INFO)
    } else {
        targets
    }
}

#[cfg(test)]
mod tests {
    // A test may stop at what it did not expect.
    #![allow(clippy::unwrap_used)]

    use tracing_subscriber::filter::LevelFilter;

    use super::{asked_log, usual_log};

    #[test]
    fn the_log_variable_takes_levels_and_targets() {
        let targets = asked_log("warn,ottla_broker::handlers=debug").unwrap().unwrap();
        let debug = &tracing::Level::DEBUG;
        assert!(targets.would_enable("ottla_broker::handlers::produce", debug));
        assert!(!targets.would_enable("ottla_broker::server", debug));
        assert_eq!(targets.default_level(), Some(LevelFilter::WARN));
        assert_eq!(asked_log(" ").unwrap(), None);
    }

    #[test]
    fn a_log_variable_that_is_not_understood_is_named_with_what_it_takes() {
        let text = asked_log("ottla=loud").unwrap_err();
        assert!(
            text.contains("RUST_LOG=ottla=loud") && text.contains("warn,ottla_broker=debug"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_tells_its_milestones_without_being_asked() {
        let info = &tracing::Level::INFO;
        assert!(usual_log(true).would_enable("ottla_broker::broker", info));
        assert!(!usual_log(false).would_enable("ottla_broker::broker", info));
        assert!(!usual_log(true).would_enable("ottla::producer", info));
    }
}
