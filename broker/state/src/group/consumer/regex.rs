//! Which topics a regular expression means (`SubscribedTopicRegex`).
//!
//! Kafka promises the syntax of RE2, which has no look-around and no back-references, so that matching takes time linear
//! in the name; the crate `regex` has the same syntax for the same reason. An expression has to match the whole name.

use crate::group::topics::TopicsImage;
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The memory that one compiled expression may take: what a stranger sends is compiled here.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Compiles an expression so that it matches whole names.
///
/// # Errors
/// What is wrong with the expression.
pub(crate) fn compile(regex: &str) -> Result<Regex, String> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    // As its author wrote it first: an error then shows his own text, and `)|(` cannot break out of the frame.
    build(regex)
        .and_then(|_| build(&format!(r"\A(?:{regex})\z")))
        .map_err(|error| error.to_string())
}

/// The names that the expression matches.
pub(crate) fn matching(regex: &Regex, topics: &dyn TopicsImage) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::new();
    topics.for_each_name(&mut |name| {
        if regex.is_match(name) {
            names.insert(name.clone());
        }
    });
    names
}
