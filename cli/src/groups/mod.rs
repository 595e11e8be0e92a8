//! `ottla groups`: list, describe, reset and delete consumer groups, with the option names of Kafka's `kafka-consumer-groups`.
//!
//! In: one action and its options. Out: tables on standard output in the columns of Kafka's tool; a failure names every group
//! or partition that was not done. Offsets are changed only with `--execute`, and only of a group that nobody reads in.

mod describe;
mod reset;
mod selection;
pub(crate) mod standing;
mod when;

pub(crate) use describe::lag;

use clap::Args;
use ottla::{Admin, ErrorCode};

use crate::connection::ConnectionArguments;
use crate::output::say;
use crate::table::Table;
use crate::{Failure, Outcome};

/// List, describe, reset or delete consumer groups.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("action").required(true).args(["list", "describe", "reset_offsets", "delete", "delete_offsets"]))]
#[command(group = clap::ArgGroup::new("place").requires("reset_offsets").args(
    ["to_earliest", "to_latest", "to_offset", "shift_by", "to_datetime", "by_duration", "to_current", "from_file"]))]
pub struct GroupsArguments {
    #[command(flatten)]
    connection: ConnectionArguments,

    /// List the groups.
    #[arg(long)]
    list: bool,
    /// Show how far a group is and who reads what; see --offsets, --members, --state.
    #[arg(long)]
    describe: bool,
    /// Move the committed offsets of a group that nobody reads in. Shows what it would do; does it with --execute.
    #[arg(long)]
    reset_offsets: bool,
    /// Delete a group that nobody reads in, with its offsets.
    #[arg(long)]
    delete: bool,
    /// Forget the committed offsets of the topics named by --topic.
    #[arg(long)]
    delete_offsets: bool,

    /// The group; may be repeated.
    #[arg(long, value_name = "ID", conflicts_with = "all_groups")]
    group: Vec<String>,
    /// All groups there are.
    #[arg(long)]
    all_groups: bool,

    /// List: show states, or only groups in these (separated by commas). Describe: the group itself in one line.
    #[arg(long, value_name = "STATES", num_args = 0..=1, default_missing_value = "")]
    state: Option<String>,
    /// List: show types, or only groups of these: classic, consumer (separated by commas).
    #[arg(long = "type", value_name = "TYPES", num_args = 0..=1, default_missing_value = "")]
    types: Option<String>,
    /// Describe: the members.
    #[arg(long, requires = "describe", conflicts_with = "state")]
    members: bool,
    /// Describe: offsets and lag by partition (the default).
    #[arg(long, requires = "describe", conflicts_with_all = ["members", "state"])]
    offsets: bool,
    /// Describe: more columns, with assignments and epochs.
    #[arg(long, requires = "describe")]
    verbose: bool,

    /// A topic, or some of its partitions as TOPIC:0,1; may be repeated.
    #[arg(long, value_name = "TOPIC[:P,P]", conflicts_with = "all_topics")]
    topic: Vec<String>,
    /// All partitions for which the group has committed an offset.
    #[arg(long)]
    all_topics: bool,

    /// To the first record that is still there.
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// Forwards by so many offsets, or backwards with a minus.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To the first record since then: YYYY-MM-DDThh:mm:ss, with .SSS and a zone (Z, +hh:mm) if wanted; UTC without.
    #[arg(long, value_name = "TIME")]
    to_datetime: Option<String>,
    /// To the first record since so long ago: ISO 8601, as in P1DT2H30M.
    #[arg(long, value_name = "DURATION")]
    by_duration: Option<String>,
    /// To what is committed now: with --export it saves the offsets.
    #[arg(long)]
    to_current: bool,
    /// To the offsets in this file: lines of TOPIC,PARTITION,OFFSET, as --export prints them ("GROUP," before for several groups).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic", "all_topics"])]
    from_file: Option<std::path::PathBuf>,
    /// Change the offsets.
    #[arg(long, requires = "reset_offsets", conflicts_with = "dry_run")]
    execute: bool,
    /// Show what would be done (the default).
    #[arg(long, requires = "reset_offsets")]
    dry_run: bool,
    /// Print lines for --from-file instead of a table.
    #[arg(long, requires = "reset_offsets")]
    export: bool,

    /// How long the brokers may take, in milliseconds (default.api.timeout.ms).
    #[arg(long, value_name = "MILLISECONDS")]
    timeout: Option<u64>,
    /// A setting of the admin client by Kafka's key; may be repeated.
    #[arg(long = "property", visible_alias = "command-property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
}

/// Does the one action asked for.
pub async fn run(arguments: GroupsArguments) -> Outcome {
    // What the command line gets wrong is told before anybody is asked.
    let place = match arguments.reset_offsets {
        true => Some(reset::place(&arguments)?),
        false => None,
    };
    let selected = selection::parse(&arguments.topic)?;
    let mut pairs = arguments.connection.pairs(&arguments.properties)?;
    if let Some(timeout) = arguments.timeout {
        pairs.push(("default.api.timeout.ms".into(), timeout.to_string()));
    }
    let admin = Admin::from_properties(pairs)?.build().await?;
    let outcome = if arguments.list {
        list(&admin, &arguments).await
    } else if arguments.describe {
        describe::run(&admin, &arguments).await
    } else if let Some(place) = place {
        reset::run(&admin, &arguments, &place, &selected).await
    } else if arguments.delete {
        delete(&admin, &arguments).await
    } else {
        delete_offsets(&admin, &arguments, &selected).await
    };
    admin.close().await;
    outcome
}

impl GroupsArguments {
    /// The groups that the action is about.
    async fn groups(&self, admin: &Admin) -> Result<Vec<String>, Failure> {
        if self.all_groups {
            let listed = admin.list_groups(&[], &[]).await?;
            return Ok(listed.into_iter().map(|group| group.group_id).collect());
        }
        if self.group.is_empty() {
            return Err(Failure::new("which group? Name it with --group, or take --all-groups"));
        }
        Ok(self.group.clone())
    }
}

async fn list(admin: &Admin, arguments: &GroupsArguments) -> Outcome {
    let wanted = |names: &Option<String>| -> Vec<String> {
        let names = names.iter().flat_map(|names| names.split(','));
        names
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    };
    let (states, types) = (wanted(&arguments.state), wanted(&arguments.types));

    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let groups = admin.list_groups(&states, &types).await?;
    if arguments.state.is_none() && arguments.types.is_none() {
        for group in groups {
            say!("{}", group.group_id);
        }
        return Ok(());
    }
    let mut heading = vec!["GROUP"];
    heading.extend(arguments.types.as_ref().map(|_| "TYPE"));
    heading.extend(arguments.state.as_ref().map(|_| "STATE"));
    let mut table = Table::new(&heading);
    for group in groups {
        let mut row = vec![group.group_id];
        row.extend(arguments.types.as_ref().map(|_| group.group_type));
        row.extend(arguments.state.as_ref().map(|_| group.state));
        table.row(row);
    }
    print(&table);
    Ok(())
}

async fn delete(admin: &Admin, arguments: &GroupsArguments) -> Outcome {
    let groups = arguments.groups(admin).await?;
    let mut failures = Vec::new();
    for (group, answer) in admin.delete_consumer_groups(&groups).await? {
        match answer {
            Ok(()) => say!("Deleted group {group}."),
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => failures.push(unknown(&group)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    all_done(&failures)
}

async fn delete_offsets(admin: &Admin, arguments: &GroupsArguments, selected: &[selection::Selected]) -> Outcome {
    let [group] = &arguments.group[..] else {
        return Err(Failure::new("--delete-offsets takes one --group"));
    };
    if selected.is_empty() {
        return Err(Failure::new(
            "which topics? Name them with --topic TOPIC or --topic TOPIC:0,1",
        ));
    }
    let partitions = selection::resolve(admin, selected).await?;
    let answers = match admin.delete_consumer_group_offsets(group, &partitions).await {
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => return Err(Failure::new(unknown(group))),
        answers => answers?,
    };
    let mut table = Table::new(&["TOPIC", "PARTITION", "STATUS"]);
    let mut failures = Vec::new();
    for (partition, answer) in answers {
        let status = if answer.is_ok() { "Successful" } else { "Failed" };
        table.row([
            partition.topic.to_string(),
            partition.partition.to_string(),
            status.into(),
        ]);
        failures.extend(answer.err().map(|error| match error.code() {
            Some(ErrorCode::GroupSubscribedToTopic) => {
                format!("{partition}: a member of group {group:?} reads this topic; stop it first")
            }
            _ => error.to_string(),
        }));
    }
    print(&table);
    all_done(&failures)
}

fn print(table: &Table) {
    for line in table.lines() {
        say!("{line}");
    }
}

fn unknown(group: &str) -> String {
    format!("group {group:?} does not exist; `ottla groups --list` shows those that do")
}

fn all_done(failures: &[String]) -> Outcome {
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}
