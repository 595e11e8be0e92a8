//! `ottla groups --reset-offsets`: where a group is to go on.
//!
//! In: groups, partitions and a place. Out: the new offsets, as a table or as lines that `--from-file` reads. Without
//! `--execute` nothing is changed. An offset outside of the log is moved to its nearer end, and that is said. A group with
//! members is refused: they would go on from where they are and overwrite what was reset.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla::{Admin, ConsumerGroupDescription, ErrorCode, OffsetAndMetadata, OffsetSpec, TopicPartition};

use super::selection::{Selected, resolve};
use super::standing::{Standing, offsets_of};
use super::when::{datetime_ms, duration_ms};
use super::{GroupsArguments, all_done, print};
use crate::output::say;
use crate::table::Table;
use crate::{Failure, Outcome};

/// Offsets of a file, by group; no group where the file names none.
type Saved = BTreeMap<Option<String>, BTreeMap<TopicPartition, i64>>;

/// Where to go.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    Earliest,
    Latest,
    Offset(i64),
    ShiftBy(i64),
    /// Milliseconds since 1970.
    Since(i64),
    Current,
    Saved(Saved),
}

/// What is known of a partition.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    committed: Option<i64>,
    earliest: i64,
    latest: i64,
    /// The first offset of a record since the time asked for; `None` for no such record.
    since: Option<i64>,
}

/// The place that the options name.
pub fn place(arguments: &GroupsArguments) -> Result<Place, Failure> {
    let place = match arguments {
        GroupsArguments { to_earliest: true, .. } => Place::Earliest,
        GroupsArguments { to_latest: true, .. } => Place::Latest,
        GroupsArguments { to_current: true, .. } => Place::Current,
        GroupsArguments {
            to_offset: Some(offset),
            ..
        } => Place::Offset(*offset),
        GroupsArguments {
            shift_by: Some(count), ..
        } => Place::ShiftBy(*count),
        GroupsArguments {
            to_datetime: Some(text),
            ..
        } => Place::Since(datetime_ms(text).ok_or_else(|| {
            Failure::new(format!(
                "--to-datetime takes YYYY-MM-DDThh:mm:ss, then .SSS and Z or +hh:mm if wanted, not '{text}'"
            ))
        })?),
        GroupsArguments {
            by_duration: Some(text),
            ..
        } => {
            let ago = duration_ms(text).ok_or_else(|| {
                Failure::new(format!(
                    "--by-duration takes a duration such as P1DT2H30M, not '{text}'"
                ))
            })?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Place::Since(
                i64::try_from(now.as_millis())
                    .unwrap_or(i64::MAX)
                    .saturating_sub(ago)
                    .max(0),
            )
        }
        GroupsArguments {
            from_file: Some(path), ..
        } => Place::Saved(read_saved(path)?),
        _ => {
            return Err(Failure::new(
                "where to? One of --to-earliest, --to-latest, --to-offset, --shift-by, --to-datetime, --by-duration, \
                 --to-current, --from-file",
            ));
        }
    };
    if matches!(place, Place::Saved(_)) || arguments.all_topics || !arguments.topic.is_empty() {
        Ok(place)
    } else {
        Err(Failure::new(
            "which topics? Name them with --topic, or take --all-topics",
        ))
    }
}

/// Works out the new offsets of each group, and sets them with `--execute`.
pub async fn run(admin: &Admin, arguments: &GroupsArguments, place: &Place, selected: &[Selected]) -> Outcome {
    let groups = arguments.groups(admin).await?;
    let several = groups.len() > 1;
    let mut table = Table::new(&["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]);
    let mut failures = Vec::new();
    for group in &groups {
        let planned = match plan_of(admin, arguments, group, place, selected).await {
            Ok(planned) => planned,
            Err(Failure(text)) => {
                failures.push(text);
                continue;
            }
        };
        let done = if arguments.execute {
            set(admin, group, planned, &mut failures).await?
        } else {
            planned
        };
        for (partition, offset) in done {
            let (topic, number) = (&partition.topic, partition.partition);
            match (arguments.export, several) {
                (true, false) => say!("{topic},{number},{offset}"),
                (true, true) => say!("{group},{topic},{number},{offset}"),
                (false, _) => table.row([group.clone(), topic.to_string(), number.to_string(), offset.to_string()]),
            }
        }
    }
    if !table.is_empty() {
        print(&table);
    }
    if !arguments.execute && failures.len() < groups.len() {
        eprintln!("ottla: nothing was changed; add --execute to do it");
    }
    all_done(&failures)
}

async fn set(
    admin: &Admin,
    group: &str,
    planned: BTreeMap<TopicPartition, i64>,
    failures: &mut Vec<String>,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let offsets = planned
        .iter()
        .map(|(partition, offset)| (partition.clone(), OffsetAndMetadata::new(*offset)));
    let answers = admin.alter_consumer_group_offsets(group, &offsets.collect()).await?;
    let mut done = planned;
    for (partition, answer) in answers {
        if let Err(error) = answer {
            done.remove(&partition);
            failures.push(error.to_string());
        }
    }
    Ok(done)
}

/// The new offsets of one group.
async fn plan_of(
    admin: &Admin,
    arguments: &GroupsArguments,
    group: &str,
    place: &Place,
    selected: &[Selected],
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let committed = match Standing::of(admin, group).await {
        Ok(standing) => {
            check_inactive(&standing.description)?;
            standing.committed
        }
        // A group begins to exist with its first offset.
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    let saved = match place {
        Place::Saved(saved) => saved.get(&Some(group.to_owned())).or_else(|| saved.get(&None)),
        _ => None,
    };
    let partitions: BTreeSet<TopicPartition> = match place {
        Place::Saved(_) => saved.into_iter().flat_map(BTreeMap::keys).cloned().collect(),
        _ if arguments.all_topics => committed.keys().cloned().collect(),
        _ => resolve(admin, selected).await?.into_iter().collect(),
    };
    if partitions.is_empty() {
        return Err(Failure::new(format!(
            "group {group:?}: nothing to reset, there is no partition with a committed offset or a line in the file"
        )));
    }
    let known = known_of(admin, &partitions, &committed, place).await?;
    let mut planned = BTreeMap::new();
    for partition in partitions {
        let known = known.get(&partition).ok_or_else(|| {
            Failure::new(format!(
                "{partition} does not exist: group {group:?} has nothing to read there"
            ))
        })?;
        let saved = saved.and_then(|saved| saved.get(&partition)).copied();
        let (offset, moved) = new_offset(place, saved, known)
            .map_err(|Failure(text)| Failure::new(format!("group {group:?}, {partition}: {text}")))?;
        if let Some(moved) = moved {
            eprintln!("ottla: {partition}: {moved}");
        }
        planned.insert(partition, offset);
    }
    Ok(planned)
}

fn check_inactive(group: &ConsumerGroupDescription) -> Outcome {
    if group.members.is_empty() && matches!(group.state.as_str(), "Empty" | "Dead") {
        return Ok(());
    }
    let clients: BTreeSet<&str> = group.members.iter().map(|member| member.client_id.as_str()).collect();
    Err(Failure::new(format!(
        "group {:?} is in use (state {}, {} of client id {}): offsets can be reset only while it has no members; stop them first",
        group.group_id,
        group.state,
        crate::summary::counted(group.members.len() as u64, "member"),
        clients.into_iter().collect::<Vec<_>>().join(", ")
    )))
}

async fn known_of(
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
    committed: &BTreeMap<TopicPartition, i64>,
    place: &Place,
) -> Result<BTreeMap<TopicPartition, Known>, Failure> {
    let all = || partitions.iter().cloned();
    let earliest = offsets_of(admin, all(), OffsetSpec::Earliest).await?;
    let latest = offsets_of(admin, all(), OffsetSpec::Latest).await?;
    let since = match place {
        Place::Since(ms) => offsets_of(admin, all(), OffsetSpec::Timestamp(*ms)).await?,
        _ => BTreeMap::new(),
    };
    let known = latest.into_iter().filter_map(|(partition, latest)| {
        let known = Known {
            committed: committed.get(&partition).copied(),
            earliest: earliest.get(&partition).copied().flatten()?,
            latest: latest?,
            since: since.get(&partition).copied().flatten(),
        };
        Some((partition, known))
    });
    Ok(known.collect())
}

/// The offset, and what to say if it is not the one that was asked for.
fn new_offset(place: &Place, saved: Option<i64>, known: &Known) -> Result<(i64, Option<String>), Failure> {
    let wanted = match place {
        Place::Earliest => known.earliest,
        Place::Latest => known.latest,
        Place::Offset(offset) => *offset,
        Place::ShiftBy(count) => {
            let committed = known
                .committed
                .ok_or_else(|| Failure::new("nothing is committed that could be shifted"))?;
            committed.saturating_add(*count)
        }
        Place::Since(_) => known.since.unwrap_or(known.latest),
        Place::Current => known.committed.unwrap_or(known.latest),
        Place::Saved(_) => saved.unwrap_or(known.latest),
    };
    let (offset, end) = match wanted {
        wanted if wanted < known.earliest => (known.earliest, "the first record is at"),
        wanted if wanted > known.latest => (known.latest, "the log ends at"),
        wanted => return Ok((wanted, None)),
    };
    Ok((offset, Some(format!("offset {wanted} is not there, {end} {offset}"))))
}

fn read_saved(path: &Path) -> Result<Saved, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    parse_saved(&text).map_err(|Failure(text)| failed(&text))
}

/// Lines of TOPIC,PARTITION,OFFSET, or of GROUP,TOPIC,PARTITION,OFFSET; quotes around topics, as Kafka writes them, are taken off.
fn parse_saved(text: &str) -> Result<Saved, Failure> {
    let mut saved = Saved::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
        let (group, topic, partition, offset) = match &cells[..] {
            [topic, partition, offset] => (None, topic, partition, offset),
            [group, topic, partition, offset] => (Some((*group).to_owned()), topic, partition, offset),
            _ => return Err(not_saved(number, line)),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse::<i32>(), offset.parse::<i64>()) else {
            return Err(not_saved(number, line));
        };
        if partition < 0 || offset < 0 || topic.is_empty() {
            return Err(not_saved(number, line));
        }
        saved
            .entry(group)
            .or_default()
            .insert(TopicPartition::new(*topic, partition), offset);
    }
    Ok(saved)
}

fn not_saved(number: usize, line: &str) -> Failure {
    Failure::new(format!(
        "line {}: '{line}' is not of the form TOPIC,PARTITION,OFFSET",
        number + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known {
        committed: Some(20),
        earliest: 10,
        latest: 100,
        since: Some(40),
    };

    #[test]
    fn each_place_is_an_offset() {
        let places = [
            (Place::Earliest, 10),
            (Place::Latest, 100),
            (Place::Offset(30), 30),
            (Place::ShiftBy(-5), 15),
            (Place::Since(0), 40),
            (Place::Current, 20),
        ];
        for (place, expected) in places {
            assert_eq!(new_offset(&place, None, &KNOWN).unwrap(), (expected, None), "{place:?}");
        }
        assert_eq!(
            new_offset(&Place::Saved(Saved::new()), Some(55), &KNOWN).unwrap(),
            (55, None)
        );
    }

    #[test]
    fn what_is_outside_of_the_log_goes_to_its_nearer_end_and_says_so() {
        for (place, expected) in [
            (Place::Offset(5), 10),
            (Place::ShiftBy(1000), 100),
            (Place::ShiftBy(i64::MIN), 10),
        ] {
            let (offset, told) = new_offset(&place, None, &KNOWN).unwrap();
            assert_eq!(offset, expected);
            assert!(told.unwrap().ends_with(&expected.to_string()), "{place:?}");
        }
    }

    #[test]
    fn without_a_record_since_then_it_is_the_end_and_without_a_commit_there_is_nothing_to_shift() {
        let known = Known {
            committed: None,
            since: None,
            ..KNOWN
        };
        assert_eq!(new_offset(&Place::Since(0), None, &known).unwrap().0, 100);
        assert_eq!(new_offset(&Place::Current, None, &known).unwrap().0, 100);
        assert!(
            new_offset(&Place::ShiftBy(1), None, &known)
                .unwrap_err()
                .0
                .contains("nothing is committed")
        );
    }

    #[test]
    fn saved_offsets_may_name_their_group() {
        let saved = parse_saved("\"a\",0,7\n\ng,b,1,8\n").unwrap();
        assert_eq!(saved[&None], BTreeMap::from([(TopicPartition::new("a", 0), 7)]));
        assert_eq!(
            saved[&Some("g".into())],
            BTreeMap::from([(TopicPartition::new("b", 1), 8)])
        );
        for wrong in ["a,0", "a,x,1", "a,0,-1", ",0,1"] {
            let error = parse_saved(&format!("a,0,1\n{wrong}\n")).unwrap_err();
            assert!(error.0.contains("line 2"), "{}", error.0);
        }
    }
}
