//! What a writer was told, and what is in the log: the judgement of loss, duplicates and order.
//!
//! Records are numbered in the order in which they were sent to their partition; a record's value is its number.

use std::collections::{HashMap, HashSet};
use std::ops::AddAssign;

/// The columns of [`Verdict::row`].
pub const ROW: &str =
    " acknowledged | failed: No | failed: Possibly | read | lost | duplicated | misordered | status lies |";

/// What the writer was told, until it ended.
#[derive(Debug, Default)]
pub struct Told {
    /// (partition, offset, number) of each acknowledged record; -1 for an offset that nobody knows.
    pub acked: Vec<(i32, i64, u64)>,
    /// Numbers of records that failed and may be in the log or not.
    pub failed: Vec<u64>,
    /// Numbers of records that failed and, so the writer was told, are certainly not in the log.
    pub refused: Vec<u64>,
}

/// The verdict. The first five count; everything after them must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged records.
    pub acked: usize,
    /// Records that failed, and may be in the log.
    pub failed: usize,
    /// Records that failed, and are said to be certainly not in the log.
    pub refused: usize,
    /// Records in the log, copies included.
    pub read: usize,
    /// Acknowledged without an offset: the broker knew only that it has them.
    pub unplaced: usize,
    /// Acknowledged, and not in the log.
    pub lost: usize,
    /// In the log more than once.
    pub duplicated: usize,
    /// In the log after a record that was sent later.
    pub out_of_order: usize,
    /// Acknowledged for another offset or partition than where it is.
    pub misplaced: usize,
    /// In the log, and never sent.
    pub phantom: usize,
    /// In the log, and said to be certainly not there.
    pub denied: usize,
}

impl Verdict {
    /// Nothing lost, duplicated, out of order, misplaced, made up or denied.
    pub fn is_clean(&self) -> bool {
        self.duplicated + self.out_of_order == 0 && self.is_honest()
    }

    /// The verdict as the end of a row in a table: [`ROW`] names the columns.
    pub fn row(&self) -> String {
        let lies = self.misplaced + self.phantom + self.denied;
        let counts = [
            self.acked,
            self.refused,
            self.failed,
            self.read,
            self.lost,
            self.duplicated,
            self.out_of_order,
            lies,
        ];
        counts.map(|count| format!(" {count} |")).concat()
    }

    /// Nothing lost, misplaced, made up or denied: what a producer promises that may write a record twice.
    pub fn is_honest(&self) -> bool {
        self.lost + self.misplaced + self.phantom + self.denied == 0
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Verdict) {
        self.acked += other.acked;
        self.failed += other.failed;
        self.refused += other.refused;
        self.read += other.read;
        self.unplaced += other.unplaced;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.misplaced += other.misplaced;
        self.phantom += other.phantom;
        self.denied += other.denied;
    }
}

/// Judges `log` (each partition's offsets and numbers in the order they were read) by what the writer was `told`.
pub fn judge(told: &Told, log: &[Vec<(i64, u64)>]) -> Verdict {
    let mut verdict = Verdict {
        acked: told.acked.len(),
        failed: told.failed.len(),
        refused: told.refused.len(),
        ..Verdict::default()
    };
    let mut homes: HashMap<u64, Vec<(i32, i64)>> = HashMap::new();
    for (partition, records) in log.iter().enumerate() {
        let mut highest = None;
        for (offset, number) in records {
            verdict.read += 1;
            let places = homes.entry(*number).or_default();
            places.push((partition as i32, *offset));
            if places.len() > 1 {
                verdict.duplicated += 1;
            } else if highest > Some(*number) {
                verdict.out_of_order += 1;
            }
            highest = highest.max(Some(*number));
        }
    }
    let mut sent: HashSet<u64> = told.failed.iter().chain(&told.refused).copied().collect();
    for (partition, offset, number) in &told.acked {
        sent.insert(*number);
        verdict.unplaced += usize::from(*offset < 0);
        // Where a record may be there twice, the acknowledgement tells of one of the copies.
        let is_told = |home: &(i32, i64)| home.0 == *partition && (*offset < 0 || home.1 == *offset);
        match homes.get(number) {
            None => verdict.lost += 1,
            Some(homes) if !homes.iter().any(is_told) => verdict.misplaced += 1,
            Some(_) => {}
        }
    }
    verdict.phantom = homes.keys().filter(|number| !sent.contains(number)).count();
    verdict.denied = told.refused.iter().filter(|number| homes.contains_key(number)).count();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told {
            acked: vec![(0, 0, 1), (0, 1, 3), (1, 0, 2), (1, -1, 4)],
            failed: vec![5],
            refused: vec![6],
        }
    }

    #[test]
    fn a_clean_log_is_clean_with_and_without_the_failed_record() {
        let without = judge(&told(), &[vec![(0, 1), (1, 3)], vec![(0, 2), (1, 4)]]);
        assert!(without.is_clean());
        assert_eq!(without.unplaced, 1);
        let with = judge(&told(), &[vec![(0, 1), (1, 3), (2, 5)], vec![(0, 2), (1, 4)]]);
        assert!(with.is_clean());
    }

    #[test]
    fn each_fault_is_found_under_its_own_name() {
        let verdict = |zero: &[(i64, u64)], one: &[(i64, u64)]| judge(&told(), &[zero.to_vec(), one.to_vec()]);
        let rest = [(0, 2), (1, 4)];
        assert_eq!(verdict(&[(0, 1)], &rest).lost, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3)], &[(0, 2)]).lost, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 3)], &rest).duplicated, 1);
        assert_eq!(verdict(&[(0, 3), (1, 1)], &rest).out_of_order, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 2)], &[(1, 4)]).misplaced, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 4)], &[(0, 2)]).misplaced, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 9)], &rest).phantom, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 6)], &rest).denied, 1);
    }

    #[test]
    fn an_acknowledgement_may_tell_of_either_copy() {
        let told = Told {
            acked: vec![(0, 0, 1), (0, 3, 2)],
            ..Told::default()
        };
        let verdict = judge(&told, &[vec![(0, 1), (1, 2), (2, 1), (3, 2)]]);
        assert!(verdict.is_honest() && !verdict.is_clean());
        assert_eq!(verdict.duplicated, 2);
    }
}
