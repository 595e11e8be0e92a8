//! Version ranges as the schemas write them: `none`, `3`, `0-5`, `2+`.

/// A range of versions, both ends included; possibly empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// First version.
    pub first: i16,
    /// Last version; `i16::MAX` when open.
    pub last: i16,
}

impl Versions {
    /// No version.
    pub const NONE: Versions = Versions { first: 0, last: -1 };

    /// Reads a range; `None` when the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Versions> {
        if text == "none" || text.is_empty() {
            return Some(Versions::NONE);
        }
        if let Some(first) = text.strip_suffix('+') {
            return Some(Versions {
                first: first.parse().ok()?,
                last: i16::MAX,
            });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(Versions {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        })
    }

    /// True when no version is in the range.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// The versions in both ranges.
    #[must_use]
    pub fn and(self, other: Versions) -> Versions {
        let both = Versions {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        };
        if both.is_empty() { Versions::NONE } else { both }
    }

    /// True when `version` is in the range.
    #[must_use]
    pub fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// The Rust condition on `version` that holds for this range, given that `known` holds already: `"true"`,
    /// `"false"` or a comparison.
    #[must_use]
    pub fn condition(self, known: Versions) -> String {
        let both = self.and(known);
        if both.is_empty() {
            return "false".into();
        }
        match (both.first > known.first, both.last < known.last) {
            (false, false) => "true".into(),
            (true, false) => format!("version >= {}", both.first),
            (false, true) => format!("version <= {}", both.last),
            (true, true) if both.first == both.last => format!("version == {}", both.first),
            (true, true) => format!("({}..={}).contains(&version)", both.first, both.last),
        }
    }

    /// The Rust condition that holds for the versions in `known` that are not in this range.
    #[must_use]
    pub fn opposite_condition(self, known: Versions) -> String {
        let both = self.and(known);
        match (both.first > known.first, both.last < known.last) {
            _ if both.is_empty() => "true".into(),
            (false, false) => "false".into(),
            (true, false) => format!("version < {}", both.first),
            (false, true) => format!("version > {}", both.last),
            (true, true) if both.first == both.last => format!("version != {}", both.first),
            (true, true) => format!("!({}..={}).contains(&version)", both.first, both.last),
        }
    }

    /// The range in words, for documentation: `versions 1+`, `versions 0-3`, `version 2`.
    #[must_use]
    pub fn words(self, known: Versions) -> String {
        let both = self.and(known);
        if both.last == known.last && both.first != both.last {
            format!("versions {}+", both.first)
        } else if both.first == both.last {
            format!("version {}", both.first)
        } else {
            format!("versions {}-{}", both.first, both.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Versions;

    fn versions(text: &str) -> Versions {
        Versions::parse(text).unwrap()
    }

    #[test]
    fn ranges_are_read_as_kafka_writes_them() {
        assert_eq!(versions("none"), Versions::NONE);
        assert_eq!(versions("3"), Versions { first: 3, last: 3 });
        assert_eq!(versions("0-12"), Versions { first: 0, last: 12 });
        assert_eq!(
            versions("2+"),
            Versions {
                first: 2,
                last: i16::MAX
            }
        );
        assert_eq!(Versions::parse("some"), None);
        assert_eq!(Versions::parse("1-x"), None);
    }

    #[test]
    fn a_condition_says_only_what_is_not_known_already() {
        let known = versions("2-9");
        for (range, condition, opposite) in [
            ("0+", "true", "false"),
            ("10+", "false", "true"),
            ("5+", "version >= 5", "version < 5"),
            ("0-5", "version <= 5", "version > 5"),
            ("4", "version == 4", "version != 4"),
            ("4-6", "(4..=6).contains(&version)", "!(4..=6).contains(&version)"),
        ] {
            assert_eq!(versions(range).condition(known), condition);
            assert_eq!(versions(range).opposite_condition(known), opposite);
        }
    }
}
