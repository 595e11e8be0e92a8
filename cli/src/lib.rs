//! The `ottla` command: a broker, topics, the console producer and consumer, load, and a demonstration.
//!
//! In: Kafka's own option names. Out: what was asked for on standard output, everything else on standard error, and an
//! exit code that a script can trust: 0 all done, 1 something was not done (the text says what), 2 the command line is wrong.
//! It uses nothing but the public interfaces of the client and the broker.

mod broker;
mod connection;
mod consume;
mod demo;
mod lines;
mod output;
mod payload;
mod perf;
mod produce;
mod producer_options;
mod summary;
mod topics;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

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
    start_logging(matches!(cli.command, Command::Broker(_)));
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
fn start_logging(broker: bool) {
    let default = if broker { "warn,ottla_broker=info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .try_init()
        // Somebody logs already, in his own way.
        .unwrap_or_default();
}
