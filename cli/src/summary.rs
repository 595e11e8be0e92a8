//! Numbers for people: rates, sizes, percentiles, and the processor time of this process.

use std::time::Duration;

/// Records a second and bytes a second as one phrase: `41,000 records/s, 5.1 MB/s`.
pub fn rates(records: u64, bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    format!(
        "{} records/s, {:.1} MB/s",
        grouped((records as f64 / seconds).round() as u64),
        bytes as f64 / seconds / 1_000_000.0
    )
}

/// Thousands separated by commas: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`.
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{} {noun}s", grouped(number))
    }
}

/// The value below which `share` (0 to 1) of `sorted` lies; 0 for an empty slice.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}

/// User and system time of this process so far, where the system tells (Linux); else `None`.
pub fn processor_time() -> Option<Duration> {
    // The process's own schedstat counts its main thread only, so the sum over the threads is taken.
    let mut nanoseconds = 0_u64;
    for entry in std::fs::read_dir("/proc/self/task").ok()? {
        let path = entry.ok()?.path().join("schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000), grouped(1234567)],
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
    }

    #[test]
    fn one_record_is_singular() {
        assert_eq!(
            (counted(1, "record"), counted(2, "record")),
            ("1 record".into(), "2 records".into())
        );
    }

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let sample: Vec<u64> = (1..=100).collect();
        assert_eq!(
            (
                percentile(&sample, 0.5),
                percentile(&sample, 0.99),
                percentile(&sample, 1.0)
            ),
            (50, 99, 100)
        );
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
