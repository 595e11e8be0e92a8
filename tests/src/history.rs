//! What a writer was told, and what is in the log: the judgement of loss, duplicates and order.
//!
//! Records are numbered in the order in which they were sent to their partition; a record's value is its number.

use std::collections::{HashMap, HashSet};

/// What the writer was told, until it ended.
#[derive(Debug, Default)]
pub struct Told {
    /// (partition, offset, number) of each acknowledged record.
    pub acked: Vec<(i32, i64, u64)>,
    /// Numbers of records that failed: they may be in the log or not.
    pub failed: Vec<u64>,
}

/// The verdict. Everything but the first three must be 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged records.
    pub acked: usize,
    /// Records that failed.
    pub failed: usize,
    /// Records in the log.
    pub read: usize,
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
}

impl Verdict {
    /// Nothing lost, duplicated, out of order, misplaced or made up.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.misplaced + self.phantom == 0
    }
}

/// Judges `log` (each partition's offsets and numbers in the order they were read) by what the writer was `told`.
pub fn judge(told: &Told, log: &[Vec<(i64, u64)>]) -> Verdict {
    let mut verdict = Verdict {
        acked: told.acked.len(),
        failed: told.failed.len(),
        ..Verdict::default()
    };
    let mut homes: HashMap<u64, (i32, i64)> = HashMap::new();
    for (partition, records) in log.iter().enumerate() {
        let mut highest = None;
        for (offset, number) in records {
            verdict.read += 1;
            if homes.insert(*number, (partition as i32, *offset)).is_some() {
                verdict.duplicated += 1;
            } else if highest > Some(*number) {
                verdict.out_of_order += 1;
            }
            highest = highest.max(Some(*number));
        }
    }
    let mut sent: HashSet<u64> = told.failed.iter().copied().collect();
    for (partition, offset, number) in &told.acked {
        sent.insert(*number);
        match homes.get(number) {
            None => verdict.lost += 1,
            Some(home) if home != &(*partition, *offset) => verdict.misplaced += 1,
            Some(_) => {}
        }
    }
    verdict.phantom = homes.keys().filter(|number| !sent.contains(number)).count();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told {
            acked: vec![(0, 0, 1), (0, 1, 3), (1, 0, 2)],
            failed: vec![5],
        }
    }

    #[test]
    fn a_clean_log_is_clean_with_and_without_the_failed_record() {
        assert!(judge(&told(), &[vec![(0, 1), (1, 3)], vec![(0, 2)]]).is_clean());
        assert!(judge(&told(), &[vec![(0, 1), (1, 3), (2, 5)], vec![(0, 2)]]).is_clean());
    }

    #[test]
    fn each_fault_is_found_under_its_own_name() {
        let verdict = |zero: &[(i64, u64)], one: &[(i64, u64)]| judge(&told(), &[zero.to_vec(), one.to_vec()]);
        assert_eq!(verdict(&[(0, 1)], &[(0, 2)]).lost, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 3)], &[(0, 2)]).duplicated, 1);
        assert_eq!(verdict(&[(0, 3), (1, 1)], &[(0, 2)]).out_of_order, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 2)], &[]).misplaced, 1);
        assert_eq!(verdict(&[(0, 1), (1, 3), (2, 9)], &[(0, 2)]).phantom, 1);
    }
}
