//! What a configuration value may be: its type, its range, and the text it is written as.
//!
//! Shared by the keys of the broker and those of topics. Takes the text of a value and gives it back parsed, or says
//! in one sentence what is wrong with it. It knows no key by name.

use std::fmt;

/// The type of a value, as DescribeConfigs reports it (KIP-569).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// 32 bits, signed.
    Int,
    /// 16 bits, signed.
    Short,
    /// 64 bits, signed.
    Long,
    /// A floating-point number.
    Double,
    /// Texts with commas between them.
    List,
    /// A text that is shown to nobody.
    Password,
}

impl Kind {
    /// The number of this type in a DescribeConfigs response.
    pub const fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            // 8 is the name of a Java class.
            Kind::Password => 9,
        }
    }
}

/// Which values of its type a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Every value.
    Any,
    /// This number or more.
    AtLeast(i64),
    /// A number between these two, both included.
    Between(i64, i64),
    /// A number between the first two, or the third ("the codec's own default").
    BetweenOr(i64, i64, i64),
    /// A number from 0 to 1.
    Fraction,
    /// One of these words; for a list, each of its members.
    OneOf(&'static [&'static str]),
    /// A list with at least one member, each one of these words.
    SomeOf(&'static [&'static str]),
    /// A text that is not empty.
    NotEmpty,
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Any => formatter.write_str("any value"),
            Rule::AtLeast(least) => write!(formatter, "{least} or more"),
            Rule::Between(least, most) => write!(formatter, "{least} to {most}"),
            Rule::BetweenOr(least, most, other) => write!(formatter, "{least} to {most}, or {other}"),
            Rule::Fraction => formatter.write_str("0 to 1"),
            Rule::OneOf(words) => write!(formatter, "one of {}", words.join(", ")),
            Rule::SomeOf(words) => write!(formatter, "one or more of {}", words.join(", ")),
            Rule::NotEmpty => formatter.write_str("not empty"),
        }
    }
}

/// A value that its rule has accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a [`Kind::Boolean`].
    Boolean(bool),
    /// Of a [`Kind::Int`], [`Kind::Short`] or [`Kind::Long`].
    Number(i64),
    /// Of a [`Kind::Double`].
    Double(f64),
    /// Of a [`Kind::String`] or [`Kind::Password`].
    Text(String),
    /// Of a [`Kind::List`]: trimmed, none empty.
    List(Vec<String>),
}

impl Value {
    /// The value as Kafka prints it back in DescribeConfigs.
    pub fn text(&self) -> String {
        match self {
            Value::Boolean(value) => value.to_string(),
            Value::Number(value) => value.to_string(),
            Value::Double(value) => value.to_string(),
            Value::Text(value) => value.clone(),
            Value::List(members) => members.join(","),
        }
    }
}

/// Parses `text` as `kind` and holds it against `rule`.
///
/// # Errors
/// The rest of the sentence "`key` ...": what is wrong, and what would be right.
pub fn parse(kind: Kind, rule: Rule, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let value = match kind {
        Kind::Boolean => Value::Boolean(parse_boolean(text)?),
        Kind::Int => Value::Number(parse_number(text, i64::from(i32::MIN), i64::from(i32::MAX))?),
        Kind::Short => Value::Number(parse_number(text, i64::from(i16::MIN), i64::from(i16::MAX))?),
        Kind::Long => Value::Number(parse_number(text, i64::MIN, i64::MAX)?),
        Kind::Double => Value::Double(text.parse().map_err(|_| format!("must be a number, not \"{text}\""))?),
        Kind::String | Kind::Password => Value::Text(text.to_owned()),
        Kind::List => {
            let members = text.split(',').map(str::trim).filter(|member| !member.is_empty());
            Value::List(members.map(str::to_owned).collect())
        }
    };
    if allows(rule, &value) {
        Ok(value)
    } else if kind == Kind::Password {
        Err(format!("must be {rule}"))
    } else {
        Err(format!("must be {rule}, not \"{text}\""))
    }
}

fn parse_boolean(text: &str) -> Result<bool, String> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(format!("must be true or false, not \"{text}\""))
    }
}

fn parse_number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}, not \"{text}\"")),
    }
}

fn allows(rule: Rule, value: &Value) -> bool {
    match (rule, value) {
        (Rule::Any, _) => true,
        (Rule::AtLeast(least), Value::Number(number)) => *number >= least,
        (Rule::Between(least, most), Value::Number(number)) => (least..=most).contains(number),
        (Rule::BetweenOr(least, most, other), Value::Number(number)) => {
            (least..=most).contains(number) || *number == other
        }
        (Rule::Fraction, Value::Double(number)) => (0.0..=1.0).contains(number),
        (Rule::OneOf(words), Value::Text(text)) => words.contains(&text.as_str()),
        (Rule::OneOf(words), Value::List(members)) => members.iter().all(|member| words.contains(&member.as_str())),
        (Rule::SomeOf(words), Value::List(members)) => {
            !members.is_empty() && members.iter().all(|member| words.contains(&member.as_str()))
        }
        (Rule::NotEmpty, Value::Text(text)) => !text.is_empty(),
        (Rule::NotEmpty, Value::List(members)) => !members.is_empty(),
        // A rule of another type than its key would be a mistake in a table: nothing passes, and the test that parses
        // every default finds it.
        _ => false,
    }
}

/// The word of `candidates` that `word` was probably meant to be: the one with the fewest edits, if they are few.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, candidate) = candidates
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the word may be wrong; beyond that the likeness is chance.
    (distance <= word.chars().count() / 3 + 1).then_some(candidate)
}

/// Insertions, deletions and replacements that lead from one word to the other, with a swap of neighbours as one.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous_char = None;
    for (row, from_char) in from.chars().enumerate() {
        let mut current = Vec::with_capacity(to.len() + 1);
        current.push(row + 1);
        for (column, &to_char) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(from_char != to_char);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if column > 0 && previous_char == Some(to_char) && to[column - 1] == from_char {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
        previous_char = Some(from_char);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_its_type_or_rule_is_refused_with_the_range() {
        assert_eq!(parse(Kind::Int, Rule::AtLeast(1), "7"), Ok(Value::Number(7)));
        let error = parse(Kind::Int, Rule::AtLeast(1), "0").unwrap_err();
        assert_eq!(error, "must be 1 or more, not \"0\"");
        let error = parse(Kind::Int, Rule::Any, "2147483648").unwrap_err();
        assert!(error.contains("2147483647"), "{error}");
        assert!(parse(Kind::Long, Rule::Any, "2147483648").is_ok());
        assert!(parse(Kind::Short, Rule::Any, "32768").is_err());
        assert!(parse(Kind::Int, Rule::Any, "7 MB").is_err());
    }

    #[test]
    fn a_list_is_trimmed_and_each_member_is_checked() {
        let rule = Rule::SomeOf(&["delete", "compact"]);
        assert_eq!(
            parse(Kind::List, rule, " compact , delete ,"),
            Ok(Value::List(vec!["compact".into(), "delete".into()]))
        );
        assert!(parse(Kind::List, rule, "delete,shred").is_err());
        assert!(parse(Kind::List, rule, "").is_err());
    }

    #[test]
    fn a_level_may_be_the_codecs_default_or_lie_in_its_range() {
        let rule = Rule::BetweenOr(1, 9, -1);
        assert!(parse(Kind::Int, rule, "-1").is_ok());
        assert!(parse(Kind::Int, rule, "9").is_ok());
        assert!(parse(Kind::Int, rule, "0").is_err());
    }

    #[test]
    fn the_nearest_word_counts_a_swap_of_neighbours_as_one_edit() {
        assert_eq!(edit_distance("lgo.dirs", "log.dirs"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(
            nearest("log.dris", ["log.dir", "log.dirs", "listeners"].into_iter()),
            Some("log.dirs")
        );
        assert_eq!(nearest("colour", ["log.dir", "listeners"].into_iter()), None);
    }
}
