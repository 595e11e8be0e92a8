//! What the members of a group wrote down, and the judgement of it.
//!
//! In: lines of members in any language, what their driver did to them, and where the partitions end. Out: a [`Verdict`].
//! Record `n` of a partition has the offset `n`.
//!
//! A line is `TIME MEMBER WORD ARGUMENTS`, with microseconds since 1970 read before what it tells of is done:
//!
//! ```text
//! assigned 1,2,3              owned from now on; `-` is none
//! revoked 1,2                 given up, after everything that was read of them was processed
//! lost 1,2                    belonged to others already
//! read PARTITION FIRST NEXT   the records from FIRST to before NEXT are processed
//! committed BEGUN PARTITION OFFSET   acknowledged; TIME is the end, BEGUN the beginning
//! refused WORDS               a commit was refused
//! error WORDS                 a poll gave an error
//! leaving                     closes from now on
//! left true|false             closed; whether everything was done
//! killed                      said by the driver: kill -9
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::peer::Failure;

/// The end of what has not ended.
const NEVER: u64 = u64::MAX;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since 1970.
    pub at: u64,
    /// Which member: a new name for each life of one.
    pub member: String,
    /// What happened.
    pub what: What,
}

/// What a line tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These partitions came.
    Assigned(Vec<i32>),
    /// These were given up in order.
    Revoked(Vec<i32>),
    /// These had gone to others already.
    Lost(Vec<i32>),
    /// (partition, first offset, offset after the last)
    Read(i32, i64, i64),
    /// (when it was begun, partition, offset)
    Committed(u64, i32, i64),
    /// A commit was refused.
    Refused(String),
    /// A poll gave an error.
    Error(String),
    /// It closes.
    Leaving,
    /// It has closed; whether everything was done.
    Left(bool),
    /// It was killed.
    Killed,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// It is none; with its text.
    pub fn parse(text: &str) -> Result<Line, Failure> {
        let broken = || format!("{text:?} is no line of a history");
        let (at, rest) = text.split_once(' ').ok_or_else(broken)?;
        let (member, rest) = rest.split_once(' ').ok_or_else(broken)?;
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let numbers = || -> Result<Vec<i64>, Failure> {
            let parts = rest.split([',', ' ']).filter(|part| !part.is_empty() && *part != "-");
            parts.map(|part| part.parse().map_err(|_| broken())).collect()
        };
        let partitions = || Ok::<_, Failure>(numbers()?.into_iter().map(|number| number as i32).collect());
        let three = || match numbers()?[..] {
            [first, second, third] => Ok((first, second, third)),
            _ => Err(broken()),
        };
        let what = match word {
            "assigned" => What::Assigned(partitions()?),
            "revoked" => What::Revoked(partitions()?),
            "lost" => What::Lost(partitions()?),
            "read" => three().map(|(partition, first, next)| What::Read(partition as i32, first, next))?,
            "committed" => {
                three().map(|(begun, partition, offset)| What::Committed(begun as u64, partition as i32, offset))?
            }
            "refused" => What::Refused(rest.to_owned()),
            "error" => What::Error(rest.to_owned()),
            "leaving" => What::Leaving,
            "left" => What::Left(rest == "true"),
            "killed" => What::Killed,
            _ => return Err(broken()),
        };
        Ok(Line {
            at: at.parse().map_err(|_| broken())?,
            member: member.to_owned(),
            what,
        })
    }
}

/// The verdict. The faults must be 0; the rest counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Members that were assigned something.
    pub members: usize,
    /// Members that were killed.
    pub killed: usize,
    /// Members that left in order.
    pub left: usize,
    /// Times that a partition got an owner.
    pub ownerships: usize,
    /// Of them, those that ended by the owner being taken for dead, or dying.
    pub bereft: usize,
    /// Records that are in the partitions.
    pub records: u64,
    /// Records read, repetitions included.
    pub read: u64,
    /// Records read more than once: not committed when their reader died.
    pub repeated: u64,
    /// Commits that were acknowledged, one a partition.
    pub commits: usize,
    /// Commits that were refused.
    pub refused: usize,
    /// Errors that polls gave.
    pub errors: usize,
    /// Fault: records that nobody read.
    pub skipped: u64,
    /// Fault: a partition had two owners at a time, none of them dead or taken for dead.
    pub two_owners: usize,
    /// Fault: a commit was acknowledged that lies before one that was acknowledged before it began.
    pub went_back: usize,
    /// Fault: records read again although a commit beyond them was acknowledged, or their reader had left or given up the
    /// partition in order.
    pub repeated_without_reason: u64,
    /// Fault: an owner that did not go on where it was.
    pub jumped: usize,
    /// How long partitions had no owner between two, in milliseconds, ascending.
    pub ownerless_ms: Vec<u64>,
}

impl Verdict {
    /// No fault.
    pub fn is_clean(&self) -> bool {
        self.skipped + self.repeated_without_reason == 0 && self.two_owners + self.went_back + self.jumped == 0
    }

    fn ownerless(&self, hundredth: usize) -> u64 {
        let last = self.ownerless_ms.len().saturating_sub(1);
        self.ownerless_ms.get(last * hundredth / 100).copied().unwrap_or(0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} members ({} killed, {} left), {} ownerships ({} bereft), {} records, {} read, {} repeated, {} commits, \
             {} refused, {} errors; faults: {} skipped, {} two owners, {} went back, {} repeated without reason, {} jumped; \
             without owner ms p50 {} p90 {} p99 {} most {}",
            self.members,
            self.killed,
            self.left,
            self.ownerships,
            self.bereft,
            self.records,
            self.read,
            self.repeated,
            self.commits,
            self.refused,
            self.errors,
            self.skipped,
            self.two_owners,
            self.went_back,
            self.repeated_without_reason,
            self.jumped,
            self.ownerless(50),
            self.ownerless(90),
            self.ownerless(99),
            self.ownerless(100),
        )
    }
}

/// How an ownership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Given up, with everything committed.
    InOrder,
    /// Whether what was read is committed, nobody knows.
    Closing,
    Bereft,
}

/// A partition in the hands of a member.
#[derive(Debug)]
struct Ownership {
    member: String,
    begin: u64,
    end: u64,
    how: End,
    /// First offset read and the one after the last.
    read: Option<(i64, i64)>,
}

/// Judges `lines` of partitions that end at `ends`. What is wrong is printed.
pub fn judge(lines: &[Line], ends: &[i64]) -> Verdict {
    let mut lines: Vec<&Line> = lines.iter().collect();
    lines.sort_by_key(|line| line.at);
    let mut verdict = Verdict {
        records: ends.iter().map(|end| *end as u64).sum(),
        ..Verdict::default()
    };
    let ownerships = ownerships(&lines, &mut verdict);
    count(&lines, &mut verdict);
    coverage(&lines, ends, &mut verdict);
    let commits = commits(&lines, &mut verdict);
    for (partition, owned) in &ownerships {
        owners(*partition, owned, &mut verdict);
        let none = Vec::new();
        beginnings(*partition, owned, commits.get(partition).unwrap_or(&none), &mut verdict);
    }
    verdict.ownerless_ms.sort_unstable();
    verdict
}

fn count(lines: &[&Line], verdict: &mut Verdict) {
    let mut members = HashSet::new();
    for line in lines {
        match &line.what {
            What::Assigned(_) => {
                members.insert(&line.member);
            }
            What::Killed => verdict.killed += 1,
            What::Left(true) => verdict.left += 1,
            What::Refused(_) => verdict.refused += 1,
            What::Error(_) => verdict.errors += 1,
            _ => {}
        }
    }
    verdict.members = members.len();
}

/// By partition, in the order in which they began.
fn ownerships(lines: &[&Line], verdict: &mut Verdict) -> BTreeMap<i32, Vec<Ownership>> {
    let mut all: BTreeMap<i32, Vec<Ownership>> = BTreeMap::new();
    // Whose commits are refused does not leave in order.
    let refused: HashSet<&str> = lines
        .iter()
        .filter(|line| matches!(line.what, What::Refused(_)))
        .map(|line| line.member.as_str())
        .collect();
    let in_order = |member: &str| {
        if refused.contains(member) {
            End::Bereft
        } else {
            End::InOrder
        }
    };
    for line in lines {
        let member = line.member.as_str();
        match &line.what {
            What::Assigned(partitions) => {
                for partition in partitions {
                    verdict.ownerships += 1;
                    all.entry(*partition).or_default().push(Ownership {
                        member: member.to_owned(),
                        begin: line.at,
                        end: NEVER,
                        how: End::Open,
                        read: None,
                    });
                }
            }
            What::Revoked(partitions) => end(&mut all, line, Some(partitions), End::Open, in_order(member)),
            What::Lost(partitions) => {
                end(&mut all, line, Some(partitions), End::Open, End::Bereft);
                let_go_too_late(&mut all, member, partitions);
            }
            What::Leaving => end(&mut all, line, None, End::Open, End::Closing),
            What::Killed => {
                end(&mut all, line, None, End::Open, End::Bereft);
                end(&mut all, line, None, End::Closing, End::Bereft);
            }
            What::Left(done) => {
                let how = if *done { in_order(member) } else { End::Bereft };
                end(&mut all, line, None, End::Closing, how);
            }
            What::Read(partition, first, next) => {
                let owned = all.entry(*partition).or_default();
                let mine = owned.iter_mut().rev().find(|owned| owned.member == member);
                match mine {
                    Some(Ownership { read, .. }) => {
                        if read.is_some_and(|(_, expected)| expected != *first) {
                            println!("{partition}: {member} went from {read:?} to {first}");
                            verdict.jumped += 1;
                        }
                        *read = Some((read.map_or(*first, |(begin, _)| begin), *next));
                    }
                    None => {
                        println!("{partition}: {member} reads {first} without having it");
                        verdict.jumped += 1;
                    }
                }
            }
            _ => {}
        }
    }
    let bereft = |owned: &&Ownership| owned.how == End::Bereft;
    verdict.bereft = all.values().flatten().filter(bereft).count();
    all
}

/// What a member had just let go of when it learned that it was lost long ago. A client that has let go of a partition in
/// time does not call it lost.
fn let_go_too_late(all: &mut BTreeMap<i32, Vec<Ownership>>, member: &str, partitions: &[i32]) {
    for partition in partitions {
        let mine = |owned: &&mut Ownership| owned.member == member;
        let last = all
            .get_mut(partition)
            .and_then(|owned| owned.iter_mut().rev().find(mine));
        if let Some(last) = last.filter(|last| last.how == End::InOrder) {
            last.how = End::Bereft;
        }
    }
}

/// Ends the member's ownerships that stand at `from`, of `partitions` or of all.
fn end(all: &mut BTreeMap<i32, Vec<Ownership>>, line: &Line, partitions: Option<&Vec<i32>>, from: End, how: End) {
    for (partition, owned) in all {
        if partitions.is_some_and(|named| !named.contains(partition)) {
            continue;
        }
        let mine = |owned: &&mut Ownership| owned.member == line.member && owned.how == from;
        for owned in owned.iter_mut().filter(mine) {
            // Closing ends an ownership; how it went is known later.
            if from == End::Open {
                owned.end = line.at;
            }
            owned.how = how;
        }
    }
}

/// What was read by nobody, and what more than once.
fn coverage(lines: &[&Line], ends: &[i64], verdict: &mut Verdict) {
    let mut times: Vec<Vec<u32>> = ends.iter().map(|end| vec![0; *end as usize]).collect();
    for line in lines {
        let What::Read(partition, first, next) = line.what else {
            continue;
        };
        verdict.read += (next - first) as u64;
        let counts = times.get_mut(partition as usize);
        let range = counts.and_then(|counts| counts.get_mut(first as usize..next as usize));
        range.into_iter().flatten().for_each(|count| *count += 1);
    }
    for (partition, counts) in times.iter().enumerate() {
        let skipped = counts.iter().filter(|count| **count == 0).count();
        if let Some(first) = counts.iter().position(|count| *count == 0) {
            println!("{partition}: {skipped} records were read by nobody, {first} is the first");
        }
        verdict.skipped += skipped as u64;
        verdict.repeated += counts
            .iter()
            .map(|count| u64::from(count.saturating_sub(1)))
            .sum::<u64>();
    }
}

/// (begun, acknowledged, offset)
type Commit = (u64, u64, i64);

/// By partition, in the order of their acknowledgements.
fn commits(lines: &[&Line], verdict: &mut Verdict) -> HashMap<i32, Vec<Commit>> {
    let mut all: HashMap<i32, Vec<Commit>> = HashMap::new();
    for line in lines {
        if let What::Committed(begun, partition, offset) = line.what {
            verdict.commits += 1;
            all.entry(partition).or_default().push((begun, line.at, offset));
        }
    }
    for (partition, commits) in &all {
        for (begun, _, offset) in commits {
            let before = commits.iter().filter(|(_, acknowledged, _)| acknowledged < begun);
            let highest = before.map(|(_, _, offset)| *offset).max();
            if highest > Some(*offset) {
                println!("{partition}: {offset} was committed after {highest:?}");
                verdict.went_back += 1;
            }
        }
    }
    all
}

/// No two at a time; and how long there was none.
fn owners(partition: i32, owned: &[Ownership], verdict: &mut Verdict) {
    for (at, earlier) in owned.iter().enumerate() {
        for later in &owned[at + 1..] {
            let dead = earlier.how == End::Bereft || later.how == End::Bereft;
            if later.begin < earlier.end && !dead && earlier.member != later.member {
                println!(
                    "{partition}: {} had it since {} until {}, and {} since {}",
                    earlier.member, earlier.begin, earlier.end, later.member, later.begin
                );
                verdict.two_owners += 1;
            }
        }
    }
    let mut free_since = None;
    for pair in owned.windows(2) {
        free_since = free_since.max(Some(pair[0].end));
        let gap = free_since.and_then(|since| pair[1].begin.checked_sub(since));
        verdict.ownerless_ms.extend(gap.map(|gap| gap / 1000));
    }
}

/// Every owner begins where those before it left off, and not before what is committed.
fn beginnings(partition: i32, owned: &[Ownership], commits: &[Commit], verdict: &mut Verdict) {
    for (at, owner) in owned.iter().enumerate() {
        let Some((first, _)) = owner.read else { continue };
        let left = owned[..at]
            .iter()
            .filter(|earlier| earlier.how == End::InOrder && earlier.end <= owner.begin)
            .filter_map(|earlier| Some(earlier.read?.1));
        let committed = commits
            .iter()
            .filter(|(_, acknowledged, _)| *acknowledged < owner.begin)
            .map(|(_, _, offset)| *offset);
        let known = left.chain(committed).max().unwrap_or(0);
        if first < known {
            println!("{partition}: {} began at {first}, and {known} was known", owner.member);
            verdict.repeated_without_reason += (known - first) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, end: i64) -> Verdict {
        let lines: Vec<Line> = text.lines().map(|line| Line::parse(line).unwrap()).collect();
        judge(&lines, &[end])
    }

    #[test]
    fn what_is_handed_over_in_order_is_clean() {
        let told = "1 a assigned 0\n2 a read 0 0 5\n4 a committed 3 0 5\n5 a read 0 5 7\n6 a revoked 0\n\
                    9 b assigned 0\n10 b read 0 7 9\n11 b leaving\n12 b left true";
        let verdict = verdict(told, 9);
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!(
            (verdict.members, verdict.ownerships, verdict.read, verdict.repeated),
            (2, 2, 9, 0)
        );
    }

    #[test]
    fn what_the_dead_had_not_committed_is_read_again_with_reason() {
        let told = "1 a assigned 0\n2 a read 0 0 5\n4 a committed 3 0 3\n5 a killed\n9 b assigned 0\n10 b read 0 3 9";
        let verdict = verdict(told, 9);
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!((verdict.repeated, verdict.bereft), (2, 1));
    }

    #[test]
    fn each_fault_is_found_under_its_own_name() {
        let skipped = verdict("1 a assigned 0\n2 a read 0 1 5", 5);
        assert_eq!(skipped.skipped, 1);
        let both = verdict("1 a assigned 0\n2 b assigned 0\n3 a revoked 0", 0);
        assert_eq!(both.two_owners, 1);
        let excused = verdict("1 a assigned 0\n2 b assigned 0\n3 a lost 0", 0);
        assert_eq!(excused.two_owners, 0);
        let awoken = verdict("1 a assigned 0\n2 b assigned 0\n3 a revoked 0\n4 a lost 0", 0);
        assert_eq!(awoken.two_owners, 0);
        let back = verdict("2 a committed 1 0 9\n4 b committed 3 0 8", 0);
        assert_eq!(back.went_back, 1);
        let crossing = verdict("2 a committed 1 0 9\n4 b committed 1 0 8", 0);
        assert_eq!(crossing.went_back, 0);
        let jumped = verdict("1 a assigned 0\n2 a read 0 0 2\n3 a read 0 1 4", 4);
        assert_eq!(jumped.jumped, 1);
    }

    #[test]
    fn what_was_given_up_in_order_or_committed_is_not_read_again() {
        let left = "1 a assigned 0\n2 a read 0 0 5\n3 a leaving\n4 a left true\n5 b assigned 0\n6 b read 0 2 5";
        assert_eq!(verdict(left, 5).repeated_without_reason, 3);
        let half = left.replace("left true", "left false");
        assert_eq!(verdict(&half, 5).repeated_without_reason, 0);
        let dead = "1 a assigned 0\n2 a read 0 0 5\n4 a committed 3 0 5\n5 a killed\n6 b assigned 0\n7 b read 0 4 5";
        assert_eq!(verdict(dead, 5).repeated_without_reason, 1);
    }
}
