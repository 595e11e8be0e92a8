//! `ottla broker`: one broker until it is told to stop.
//!
//! In: a `server.properties` and overrides, or nothing at all. Out: a line on standard output once clients can connect,
//! `bootstrap.servers=HOST:PORT`, so that scripts need not guess; log lines on standard error.

use std::path::{Path, PathBuf};

use clap::Args;
use ottla_broker::{Broker, BrokerConfig};

use crate::connection::split_property;
use crate::output::say;
use crate::{Failure, Outcome};

/// Start a broker.
#[derive(Args, Debug)]
pub struct BrokerArguments {
    /// The server.properties to start with; without it a broker of its own starts on a free port.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The same, as Kafka's start script takes it.
    #[arg(value_name = "server.properties", conflicts_with = "config")]
    properties_file: Option<PathBuf>,

    /// Set one key, whatever the file says; may be repeated.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,

    /// Listen on this port of the loopback address (without --config; default: a free one).
    #[arg(long, value_name = "PORT", conflicts_with_all = ["config", "properties_file"])]
    port: Option<u16>,

    /// Keep the records here (without --config; default: a new folder, removed when the broker stops).
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["config", "properties_file"])]
    data_dir: Option<PathBuf>,
}

/// Runs until SIGINT or SIGTERM, then stops in order.
pub async fn run(arguments: BrokerArguments) -> Outcome {
    let mut own_folder = None;
    let mut pairs = Vec::new();
    let file = arguments.config.or(arguments.properties_file);
    if file.is_none() {
        let folder = match arguments.data_dir {
            Some(folder) => folder,
            None => own_folder
                .insert(tempfile::Builder::new().prefix("ottla-broker-").tempdir()?)
                .path()
                .to_owned(),
        };
        pairs.push(("log.dirs".to_owned(), folder.display().to_string()));
        pairs.push((
            "listeners".to_owned(),
            format!("PLAINTEXT://127.0.0.1:{}", arguments.port.unwrap_or(0)),
        ));
    }
    for property in &arguments.overrides {
        pairs.push(
            split_property(property)
                .ok_or_else(|| Failure::new(format!("--override '{property}' is not of the form key=value")))?,
        );
    }
    let config = match &file {
        Some(path) => with_overrides(path, &pairs)?,
        None => BrokerConfig::from_properties_with("", &pairs)?,
    };
    for warning in config.warnings() {
        eprintln!("ottla: {warning}");
    }
    ottla_broker::open_files::raise_limit();
    // Asked for before the first client can connect, so that a stop in the first millisecond is an orderly one too.
    let stop = stop_requested()?;
    let broker = Broker::start(config).await?;
    say!("bootstrap.servers={}", broker.bootstrap());
    stop.await;
    broker.shutdown().await?;
    drop(own_folder);
    Ok(())
}

/// The file's keys, with those given on the command line in their place.
fn with_overrides(path: &Path, overrides: &[(String, String)]) -> Result<BrokerConfig, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    BrokerConfig::from_properties_with(&text, overrides).map_err(|error| failed(&error))
}

/// Completes at SIGINT or SIGTERM.
#[cfg(unix)]
pub(crate) fn stop_requested() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes at Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn stop_requested() -> Result<impl Future<Output = ()>, Failure> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
