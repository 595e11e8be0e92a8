//! Rules as text: `name=value` words, in any order, and back.
//!
//! In: `api=Produce,Fetch topic=gps partition=0 skip=1 times=3 error_after=REQUEST_TIMED_OUT`. Out: a [`Rule`]. Unknown
//! words are refused. What a rule says in Rust alone (a predicate, an edit of the answer) has no words; it is shown in
//! angle brackets.
//!
//! The words are the names of [`Rule`]'s builder methods. Durations have a unit (`20ms`, `3s`), versions are `9` or
//! `3..9`, error codes are Kafka's names or numbers.

use super::rule::{After, Before, Rule, WireCode};
use ottla_protocol::{ApiKey, ErrorCode};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// There is no such word.
    #[error("a fault rule has no word `{0}`")]
    Unknown(String),
    /// The value behind a word cannot be read.
    #[error("`{word}` cannot be read: {expected} is expected")]
    Value {
        /// The whole word.
        word: String,
        /// What should be there.
        expected: &'static str,
    },
}

impl FromStr for Rule {
    type Err = RuleError;

    /// Reads the words.
    ///
    /// # Errors
    /// A word is unknown, or its value cannot be read.
    fn from_str(text: &str) -> Result<Rule, RuleError> {
        text.split_whitespace().try_fold(Rule::any(), read_word)
    }
}

fn read_word(rule: Rule, word: &str) -> Result<Rule, RuleError> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let or = |expected: &'static str| RuleError::Value {
        word: word.to_owned(),
        expected,
    };
    let number = || value.parse::<u64>().map_err(|_| or("a number"));
    let bytes = || value.parse::<usize>().map_err(|_| or("a number of bytes"));
    let time = || duration(value).ok_or_else(|| or("a duration such as 20ms or 3s"));
    let code = || code(value).ok_or_else(|| or("the name or number of an error code"));
    let rule = match name {
        "refuse_connections" => Rule { accept: true, ..rule },
        "api" => value.split(',').try_fold(rule, |rule, name| {
            let api = api(name).ok_or_else(|| or("the name of an API, or several with commas between them"))?;
            Ok(rule.or(api))
        })?,
        "topic" => rule.topic(value),
        "partition" => rule.partition(value.parse().map_err(|_| or("a partition"))?),
        "client_id" => rule.client_id(value),
        "versions" => rule.versions(versions(value).ok_or_else(|| or("a version, or two with .. between them"))?),
        "listener" => rule.listener(value),
        "connection" => rule.connection(number()?),
        "skip" => rule.skip(number()?),
        "times" => rule.times(number()?),
        "probability" => Rule {
            probability: Some(value.parse().map_err(|_| or("a number between 0 and 1"))?),
            ..rule
        },
        "seed" => Rule {
            seed: number()?,
            ..rule
        },
        "top_level" => rule.top_level(),
        "delay_request" => rule.delay_request(time()?),
        "drop_request" => rule.drop_request(),
        "close_before" => rule.close_before(),
        "cut_request" => rule.cut_request(bytes()?),
        "error_before" => rule.error_before(code()?),
        "error_after" => rule.error_after(code()?),
        "throttle" => rule.throttle(time()?),
        "delay_response" => rule.delay_response(time()?),
        "drop_response" => rule.drop_response(),
        "close_after" => rule.close_after(),
        "cut_response" => rule.cut_response(bytes()?),
        "duplicate_response" => rule.duplicate_response(),
        _ => return Err(RuleError::Unknown(word.to_owned())),
    };
    Ok(rule)
}

fn api(name: &str) -> Option<ApiKey> {
    let keys = (0..=i16::from(u8::MAX)).filter_map(ApiKey::from_code);
    keys.into_iter().find(|key| key.name() == name)
}

fn code(text: &str) -> Option<WireCode> {
    let named = ErrorCode::ALL.iter().find(|code| code.name() == text);
    named
        .map(|code| (*code).into())
        .or_else(|| text.parse().ok().map(WireCode))
}

fn versions(text: &str) -> Option<std::ops::RangeInclusive<i16>> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn duration(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

/// Writes words with one blank between them.
struct Words<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    first: bool,
}

impl Words<'_, '_> {
    fn word(&mut self, word: impl fmt::Display) -> fmt::Result {
        let blank = if self.first { "" } else { " " };
        self.first = false;
        write!(self.to, "{blank}{word}")
    }

    fn some(&mut self, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.word(format_args!("{name}={value}")))
    }

    fn flag(&mut self, name: &str, is_set: bool) -> fmt::Result {
        if is_set { self.word(name) } else { Ok(()) }
    }

    fn time(&mut self, name: &str, time: Option<Duration>) -> fmt::Result {
        self.some(name, time.map(|time| format!("{}ms", time.as_millis())))
    }
}

impl fmt::Display for WireCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ErrorCode::from_code(self.0) {
            Some(code) => f.write_str(code.name()),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut to = Words { to: f, first: true };
        to.flag("refuse_connections", self.accept)?;
        let apis: Vec<_> = self.apis.iter().map(|api| api.name()).collect();
        to.some("api", (!apis.is_empty()).then(|| apis.join(",")))?;
        to.some("topic", self.topic.as_ref())?;
        to.some("partition", self.partition)?;
        to.some("client_id", self.client_id.as_ref())?;
        let versions = self.versions.as_ref();
        to.some(
            "versions",
            versions.map(|range| format!("{}..{}", range.start(), range.end())),
        )?;
        to.some("listener", self.listener.as_ref())?;
        to.some("connection", self.connection)?;
        to.flag("<predicate>", self.predicate.is_some())?;
        to.some("skip", (self.skip > 0).then_some(self.skip))?;
        to.some("times", self.times)?;
        to.some("probability", self.probability)?;
        to.some("seed", self.probability.map(|_| self.seed))?;
        to.flag("top_level", self.top_level)?;
        to.time(
            "delay_request",
            (!self.delay_request.is_zero()).then_some(self.delay_request),
        )?;
        match self.before {
            Before::CarryOut => {}
            Before::Drop => to.word("drop_request")?,
            Before::Close => to.word("close_before")?,
            Before::Cut(bytes) => to.some("cut_request", Some(bytes))?,
            Before::Error(code) => to.some("error_before", Some(code))?,
        }
        to.some("error_after", self.error_after)?;
        to.time("throttle", self.throttle)?;
        to.flag("<edit>", self.edit.is_some())?;
        to.time(
            "delay_response",
            (!self.delay_response.is_zero()).then_some(self.delay_response),
        )?;
        match self.after {
            After::Send => Ok(()),
            After::Drop => to.word("drop_response"),
            After::Close => to.word("close_after"),
            After::Cut(bytes) => to.some("cut_response", Some(bytes)),
            After::Duplicate => to.word("duplicate_response"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_what_its_text_says_and_back() {
        for text in [
            "",
            "api=Produce,Fetch topic=gps partition=0 client_id=me versions=9..13 listener=PLAINTEXT connection=2",
            "refuse_connections times=3",
            "skip=2 times=4 probability=0.25 seed=7 drop_request",
            "top_level error_before=UNKNOWN_SERVER_ERROR throttle=1500ms",
            "delay_request=20ms error_after=NOT_LEADER_OR_FOLLOWER delay_response=3000ms duplicate_response",
            "close_before",
            "cut_request=17 drop_response",
            "error_after=-7 close_after",
            "cut_response=0",
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        let read = |text: &str| text.parse::<Rule>().unwrap().to_string();
        assert_eq!(read("versions=9"), "versions=9..9");
        assert_eq!(
            read("delay_request=3s error_before=6"),
            "delay_request=3000ms error_before=NOT_LEADER_OR_FOLLOWER"
        );
        assert_eq!(
            Rule::any().when(|_| true).edit_response(<[u8]>::to_vec).to_string(),
            "<predicate> <edit>"
        );
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_word() {
        for word in [
            "api=Produse",
            "delay_request=3",
            "error_after=NO",
            "versions=a",
            "cut_response",
            "skip=-1",
        ] {
            let error = word.parse::<Rule>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{word}` cannot be read: ")), "{error}");
        }
        assert_eq!(
            "error=NONE".parse::<Rule>().unwrap_err().to_string(),
            "a fault rule has no word `error=NONE`"
        );
    }
}
