//! Which names a topic may have.
//!
//! The rules are Kafka's: 1 to 249 characters out of ASCII letters, digits, `.`, `_` and `-`, neither `.` nor `..`; and
//! two names that differ only in `.` and `_` exclude each other, since metrics write both the same.

use super::{ApiError, ClusterImage};
use ottla_protocol::ErrorCode;

/// The longest name: with `-`, a partition number and a suffix it still makes a directory name.
pub const NAME_LENGTH_MAX: usize = 249;

/// The topics that belong to the broker itself; clients see them as internal.
pub const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// The topic that the metadata log is named after. It is no topic of the cluster.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

/// True for a topic that belongs to the broker itself.
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// Holds a name against the rules for its characters and length.
///
/// # Errors
/// INVALID_TOPIC_EXCEPTION.
pub fn check(name: &str) -> Result<(), ApiError> {
    let problem = if name.is_empty() {
        "a topic needs a name".to_owned()
    } else if name == "." || name == ".." {
        format!("\"{name}\" is not allowed as the name of a topic")
    } else if name.len() > NAME_LENGTH_MAX {
        format!(
            "a topic name of {} characters is longer than the {NAME_LENGTH_MAX} allowed",
            name.len()
        )
    } else if let Some(other) = name.chars().find(|character| !is_allowed(*character)) {
        format!("topic name \"{name}\" contains {other:?}; allowed are ASCII letters, digits, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorCode::InvalidTopicException, problem))
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// Refuses a name that differs from an existing one only in `.` and `_`.
///
/// # Errors
/// INVALID_TOPIC_EXCEPTION, with the name it collides with.
pub fn check_collision<'a>(name: &str, image: &'a ClusterImage, others: &[&'a str]) -> Result<(), ApiError> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let existing = image.topics().map(|topic| &*topic.name).chain(others.iter().copied());
    match existing
        .filter(|other| *other != name)
        .find(|other| collide(name, other))
    {
        None => Ok(()),
        Some(other) => Err(ApiError::new(
            ErrorCode::InvalidTopicException,
            format!("topic name \"{name}\" collides with the existing \"{other}\": '.' and '_' count as the same"),
        )),
    }
}

fn collide(name: &str, other: &str) -> bool {
    let unify = |byte: u8| if byte == b'.' { b'_' } else { byte };
    name.len() == other.len() && name.bytes().map(unify).eq(other.bytes().map(unify))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_held_against_kafkas_rules() {
        for name in ["a", "A.b_c-9", "__consumer_offsets", "...", &"x".repeat(249)] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "\u{e9}", "a\0", &"x".repeat(250)] {
            assert_eq!(
                check(name).unwrap_err().code,
                ErrorCode::InvalidTopicException,
                "{name}"
            );
        }
    }

    #[test]
    fn dot_and_underscore_count_as_the_same() {
        assert!(collide("a.b", "a_b"));
        assert!(!collide("a.b", "a-b"));
        let image = ClusterImage::new("c");
        assert!(check_collision("a.b", &image, &["a_b"]).is_err());
        assert!(check_collision("a.b", &image, &["a.b", "a_c"]).is_ok());
    }
}
