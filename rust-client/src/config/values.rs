//! Values of configuration keys: checking and reading them.
//!
//! In: a row of the table and a text. Out: the value, or an error that names the key, the text and what would fit.

use std::fmt;

use ottla_client_state::subscription::ResetPolicy;

use super::{Key, Kind, group, mistake, partitioners, security};
use crate::error::Result;

/// A host and a port, as `bootstrap.servers` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Whether `value` fits `row`.
pub(super) fn check(row: &Key, value: &str) -> Result<()> {
    let name = row.name;
    match row.kind {
        Kind::Bool => match value.to_ascii_lowercase().as_str() {
            "true" | "false" => Ok(()),
            _ => Err(mistake(format!("{name} is {value:?}; it must be true or false"))),
        },
        Kind::Number { min, max, unit } => check_number(name, value, min, max, unit),
        Kind::Text | Kind::Secret => Ok(()),
        Kind::Choice(words) => {
            if words.iter().any(|word| word.eq_ignore_ascii_case(value)) {
                return Ok(());
            }
            Err(mistake(format!(
                "{name} is {value:?}; it must be {}",
                words.join(" or ")
            )))
        }
        Kind::Servers => addresses(value).map(|_| ()),
        Kind::Security => security::protocol(value).map(|_| ()),
        Kind::OffsetReset => offset_reset(value).map(|_| ()),
        Kind::PartitionerClass => partitioners::of_class(value).map(|_| ()),
        Kind::Assignors => group::assignors(value).map(|_| ()),
    }
}

fn check_number(name: &str, value: &str, min: i64, max: i64, unit: &str) -> Result<()> {
    let what = if unit.is_empty() {
        String::new()
    } else {
        format!(" of {unit}")
    };
    let Ok(number) = value.parse::<i64>() else {
        return Err(mistake(format!("{name} is {value:?}; it must be a whole number{what}")));
    };
    if number < min {
        return Err(mistake(format!("{name} is {number}; it must be at least {min}")));
    }
    if number > max {
        return Err(mistake(format!("{name} is {number}; it must be at most {max}")));
    }
    Ok(())
}

/// The addresses of a list as `bootstrap.servers` writes it; a protocol before `://` is allowed and ignored.
pub(super) fn addresses(list: &str) -> Result<Vec<Address>> {
    let mut addresses = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let address = address(entry)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn address(entry: &str) -> Result<Address> {
    let bad = |why: &str| mistake(format!("bootstrap.servers: {entry:?} {why}"));
    let rest = entry.split_once("://").map_or(entry, |(_, rest)| rest);
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err(bad("has no port; write it as host:port, for example localhost:9092"));
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(bad(
            "is ambiguous; write an IPv6 address in brackets, for example [::1]:9092",
        ));
    }
    let host = bare.unwrap_or(host);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(bad("has no valid host name; write it as host:port"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(Address {
            host: host.to_owned(),
            port,
        }),
        _ => Err(bad("has no valid port; ports go from 1 to 65535")),
    }
}

/// A value of `auto.offset.reset`.
pub(super) fn offset_reset(value: &str) -> Result<ResetPolicy> {
    let lower = value.to_ascii_lowercase();
    match lower.as_str() {
        "earliest" => return Ok(ResetPolicy::Earliest),
        "latest" => return Ok(ResetPolicy::Latest),
        "none" => return Ok(ResetPolicy::None),
        _ => {}
    }
    let duration = lower.strip_prefix("by_duration:").and_then(iso_duration_ms);
    duration.map(|ms| ResetPolicy::ByDuration { ms }).ok_or_else(|| {
        mistake(format!(
            "auto.offset.reset is {value:?}; it must be earliest, latest, none or by_duration:<duration>, for \
             example by_duration:PT1H"
        ))
    })
}

/// Milliseconds of an ISO 8601 duration in days and smaller, `PnDTnHnMn.nS`, never negative.
fn iso_duration_ms(text: &str) -> Option<u64> {
    let rest = text.strip_prefix(['p', 'P'])?;
    let (days, time) = match rest.split_once(['t', 'T']) {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let days = sum_units(days, &[('d', 86_400_000)])?;
    let time = sum_units(time, &[('h', 3_600_000), ('m', 60_000), ('s', 1_000)])?;
    days.checked_add(time)
}

/// The sum of numbers with units, each unit at most once and in the given order. Only seconds may have a fraction.
fn sum_units(mut text: &str, units: &[(char, u64)]) -> Option<u64> {
    let mut total: u64 = 0;
    for (unit, ms) in units {
        let Some(end) = text.find(|c: char| c.eq_ignore_ascii_case(unit)) else {
            continue;
        };
        let number = &text[..end];
        text = &text[end + 1..];
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !fraction.is_empty() && *unit != 's' {
            return None;
        }
        total = total.checked_add(whole.parse::<u64>().ok()?.checked_mul(*ms)?)?;
        total = total.checked_add(fraction_ms(fraction)?)?;
    }
    text.is_empty().then_some(total)
}

fn fraction_ms(digits: &str) -> Option<u64> {
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let three: String = digits.chars().chain("000".chars()).take(3).collect();
    three.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kafka_writes_them() {
        let list = addresses("kafka-1:9092, PLAINTEXT://kafka-2:9093,[::1]:9094,kafka-1:9092,").unwrap();
        let printed: Vec<_> = list.iter().map(Address::to_string).collect();
        assert_eq!(printed, ["kafka-1:9092", "kafka-2:9093", "[::1]:9094"]);
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_refused_with_the_reason() {
        for (entry, why) in [
            ("kafka-1", "no port"),
            ("kafka-1:", "valid port"),
            ("kafka-1:0", "valid port"),
            ("kafka-1:70000", "valid port"),
            (":9092", "host name"),
            ("::1:9092", "brackets"),
            ("http://a/b:80", "host name"),
        ] {
            let error = addresses(entry).unwrap_err().to_string();
            assert!(error.contains(why), "{entry}: {error}");
        }
    }

    #[test]
    fn durations_are_read_as_iso_8601() {
        for (text, ms) in [
            ("PT1H", 3_600_000),
            ("P2D", 172_800_000),
            ("P1DT2H3M4.5S", 93_784_500),
            ("pt0.25s", 250),
            ("PT0S", 0),
        ] {
            assert_eq!(iso_duration_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "1H",
            "PT1.5H",
            "PT1S2M",
            "PT-1S",
            "PTxS",
            "P1Y",
            "PT99999999999999999999S",
        ] {
            assert_eq!(iso_duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_reset_policy_is_one_of_four() {
        assert_eq!(offset_reset("Earliest").unwrap(), ResetPolicy::Earliest);
        assert_eq!(
            offset_reset("by_duration:PT1M").unwrap(),
            ResetPolicy::ByDuration { ms: 60_000 }
        );
        assert!(offset_reset("smallest").unwrap_err().to_string().contains("earliest"));
    }
}
