//! `ottla top`: brokers, topics and groups of a cluster as they are now, renewed until `q`.
//!
//! In: a cluster, an interval, keys. Out: a screen, or with `--once` a plain text of the same. It only asks and changes nothing.
//! What is known (`sample`), what is made of it (`rates`, `rows`), what is looked at (`view`), and how it is drawn (`draw`, `plain`) are
//! apart; `screen` alone touches the terminal, and gives it back however the program ends.

mod draw;
mod plain;
mod rates;
mod rows;
mod sample;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ottla::Admin;
use tokio::time::{Instant, MissedTickBehavior};

use crate::connection::ConnectionArguments;
use crate::output::say;
use crate::{Failure, Outcome};
use rates::Seen;
use sample::take;
use screen::{Screen, keys};
use view::{Flow, View};

/// Watch brokers, topics and groups.
#[derive(Args, Debug)]
pub struct TopArguments {
    #[command(flatten)]
    connection: ConnectionArguments,

    /// Seconds from one look at the cluster to the next; with --once from the first to the second, which rates need (0: no rates).
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    interval: f64,
    /// Print everything once, as plain text, and end.
    #[arg(long)]
    pub once: bool,
    /// Show only topics and groups with this in their names.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Show the topics that the cluster keeps for itself, too.
    #[arg(long)]
    internal: bool,
    /// A setting of the admin client by Kafka's key; may be repeated.
    #[arg(long = "property", visible_alias = "command-property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
}

/// Watches until it is told to end, or looks once.
pub async fn run(arguments: TopArguments) -> Outcome {
    let interval = Duration::try_from_secs_f64(arguments.interval)
        .ok()
        .filter(|interval| arguments.once || !interval.is_zero())
        .ok_or_else(|| Failure::new(format!("--interval takes seconds above 0, not {}", arguments.interval)))?;
    let at_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !arguments.once && !at_terminal {
        return Err(Failure::new(
            "this is no terminal; --once prints everything as plain text",
        ));
    }
    let pairs = arguments.connection.pairs(&arguments.properties)?;
    let admin = Arc::new(Admin::from_properties(pairs)?.build().await?);
    let view = View::new(&arguments.filter, arguments.internal);
    if arguments.once {
        once(&admin, interval, &view).await
    } else {
        watch(admin, interval, view).await
    }
}

async fn once(admin: &Arc<Admin>, interval: Duration, view: &View) -> Outcome {
    let began = Instant::now();
    let mut seen = Seen::default();
    seen.take_in(take(admin, began).await?);
    if !interval.is_zero() {
        tokio::time::sleep(interval).await;
        seen.take_in(take(admin, began).await?);
    }
    for line in plain::lines(&seen, view) {
        say!("{line}");
    }
    Ok(())
}

/// Looks again and again in the background, so that keys are answered at once while the cluster is slow.
async fn watch(admin: Arc<Admin>, interval: Duration, mut view: View) -> Outcome {
    let mut seen = Seen::default();
    let mut told = String::new();
    let (looked, mut looks) = tokio::sync::mpsc::channel(1);
    let looking = tokio::spawn(async move {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if looked.send(take(&admin, began).await).await.is_err() {
                return;
            }
        }
    });
    let mut screen = Screen::open()?;
    let mut keys = keys();
    let mut stop = std::pin::pin!(crate::broker::stop_requested()?);
    let outcome = loop {
        if let Err(error) = screen.draw(|frame| draw::draw(frame, &seen, &mut view, &told)) {
            break Err(error.into());
        }
        tokio::select! {
            look = looks.recv() => match look {
                Some(Ok(sample)) => {
                    told.clear();
                    seen.take_in(sample);
                }
                // The last look stays on the screen, beside the reason why it is old.
                Some(Err(error)) => told = error.to_string(),
                None => break Ok(()),
            },
            key = keys.recv() => match key {
                Some(Ok(Some(key))) if view.handle_key(key, &seen) == Flow::End => break Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            () = &mut stop => break Ok(()),
        }
    };
    looking.abort();
    outcome
}
