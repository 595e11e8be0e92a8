//! Points in time and durations as `kafka-consumer-groups` takes them (ISO 8601).
//!
//! In: text. Out: milliseconds since 1970 (UTC where no zone stands), or of duration. A date that the calendar does not have
//! is refused.

/// `YYYY-MM-DDThh:mm:ss`, then `.SSS` and a zone (`Z`, `+hh:mm`, `+hhmm`) if wanted, in milliseconds since 1970.
pub fn datetime_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| digits(part, &[2, 4]));
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, zone_ms) = zone_of(time)?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| digits(part, &[2]));
    let (hour, minute) = (clock.next()??, clock.next()??);
    let second = clock.next().map_or(Some(0), |second| second)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = digits(&format!("{fraction:0<3}"), &[3])?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + fraction - zone_ms)
}

/// The time without its zone, and how far the zone is ahead of UTC.
fn zone_of(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else {
        return Some((time, 0));
    };
    let (time, zone) = time.split_at_checked(at)?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let zone: String = zone.chars().skip(1).filter(|c| *c != ':').collect();
    let (hours, minutes) = match zone.len() {
        2 => (digits(&zone, &[2])?, 0),
        4 => {
            let number = digits(&zone, &[4])?;
            (number / 100, number % 100)
        }
        _ => return None,
    };
    (hours <= 18 && minutes <= 59).then_some((time, sign * (hours * 60 + minutes) * 60_000))
}

fn digits(text: &str, lengths: &[usize]) -> Option<i64> {
    let fits = lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts from March on, so that the leap day is a year's last (the calendar is the Gregorian one, throughout).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // The months from March to January have 31, 30, 31, 30, 31 days, again and again.
    let before_month = (153 * month + 2) / 5;
    const FIRST_OF_1970: i64 = 719_468;
    before_year + before_month + day - 1 - FIRST_OF_1970
}

/// `P1DT2H3M4.5S`, each part at most once and in this order, in milliseconds; a minus before it is none.
pub fn duration_ms(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('P')?;
    let (days, clock) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((days, clock)) => (days, clock),
        None => (rest, ""),
    };
    if days.is_empty() && clock.is_empty() {
        return None;
    }
    let (days, rest) = part(days, 'D')?;
    if !rest.is_empty() {
        return None;
    }
    let (hours, rest) = part(clock, 'H')?;
    let (minutes, rest) = part(rest, 'M')?;
    let seconds_ms = match rest.strip_suffix('S') {
        None if rest.is_empty() => 0,
        None => return None,
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            let fraction = digits(&format!("{fraction:0<3}"), &[3])?;
            number(whole)?.checked_mul(1000)?.checked_add(fraction)?
        }
    };
    let minutes = days
        .checked_mul(24)?
        .checked_add(hours)?
        .checked_mul(60)?
        .checked_add(minutes)?;
    minutes.checked_mul(60_000)?.checked_add(seconds_ms)
}

/// The number before `unit`, if the text begins so, and what follows.
fn part(text: &str, unit: char) -> Option<(i64, &str)> {
    match text.split_once(unit) {
        None => Some((0, text)),
        Some((count, rest)) => Some((number(count)?, rest)),
    }
}

fn number(text: &str) -> Option<i64> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_a_zone_stands_there() {
        let known = [
            ("1970-01-01T00:00:00", 0),
            ("2000-02-29T12:30:15.250Z", 951_827_415_250),
            ("2026-08-21T10:00:00+02:00", 1_787_299_200_000),
            ("2026-08-21T10:00:00+0200", 1_787_299_200_000),
            ("1969-12-31T23:59:59.5-00:00", -500),
        ];
        for (text, ms) in known {
            assert_eq!(datetime_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn dates_that_the_calendar_does_not_have_are_refused() {
        for text in [
            "2026-02-29T00:00:00",
            "2026-13-01T00:00:00",
            "2026-08-21",
            "2026-08-21T24:00:00",
            "2026-08-21T1:00:00",
            "yesterday",
        ] {
            assert_eq!(datetime_ms(text), None, "{text}");
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(duration_ms("P1DT2H3M4.5S"), Some(93_784_500));
        assert_eq!(
            (duration_ms("PT15M"), duration_ms("P7D")),
            (Some(900_000), Some(604_800_000))
        );
        for text in [
            "",
            "P",
            "PT",
            "15M",
            "P15M",
            "PT5",
            "-PT5M",
            "PT1M1H",
            "P99999999999999999D",
        ] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }
}
