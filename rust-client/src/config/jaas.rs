//! `sasl.jaas.config`: how Java programs are given a name and a password.
//!
//! In: one entry of a JAAS file, `module flag key=value ... ;`. Out: module and options. Quotes, backslashes and
//! comments are read as Java reads them. It loads no class: of the module only its name counts. No error repeats a part of
//! the text, which holds a password.

use zeroize::Zeroizing;

use super::mistake;
use crate::error::{Error, Result};

/// What one entry says.
pub(super) struct Entry {
    /// The class, without its package.
    pub module: String,
    options: Vec<(String, Zeroizing<String>)>,
}

impl Entry {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The text is not one entry that ends with a semicolon.
    pub fn parse(text: &str) -> Result<Entry> {
        let mut tokens = Tokens { rest: text };
        let class = tokens.word("names no login module")?;
        let module = class.rsplit('.').next().unwrap_or_default().to_owned();
        let flag = tokens.word("has no flag after the login module: write required")?;
        if !["required", "requisite", "sufficient", "optional"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(&flag))
        {
            return Err(wrong("has no flag after the login module: write required"));
        }
        let mut options = Vec::new();
        loop {
            match tokens.next()? {
                Some(Token::Semicolon) => break,
                Some(Token::Word(key)) => {
                    let Some(Token::Equals) = tokens.next()? else {
                        return Err(wrong("has an option without an equals sign"));
                    };
                    let value = tokens.word("has an option without a value")?;
                    options.push((key.to_string(), value));
                }
                Some(Token::Equals) => return Err(wrong("has an equals sign without a name before it")),
                None => return Err(wrong("does not end with a semicolon")),
            }
        }
        match tokens.next()? {
            None => Ok(Entry { module, options }),
            Some(_) => Err(wrong(
                "has something behind its semicolon; one login module is all it may have",
            )),
        }
    }
}

enum Token {
    Word(Zeroizing<String>),
    Equals,
    Semicolon,
}

struct Tokens<'t> {
    rest: &'t str,
}

impl Tokens<'_> {
    fn word(&mut self, otherwise: &'static str) -> Result<Zeroizing<String>> {
        match self.next()? {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(wrong(otherwise)),
        }
    }

    fn next(&mut self) -> Result<Option<Token>> {
        self.skip_blanks()?;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let after = &self.rest[first.len_utf8()..];
        match first {
            '=' => {
                self.rest = after;
                Ok(Some(Token::Equals))
            }
            ';' => {
                self.rest = after;
                Ok(Some(Token::Semicolon))
            }
            '"' | '\'' => self.quoted(first, after).map(Some),
            _ => {
                let end = self.rest.find(|c: char| c.is_whitespace() || "=;\"'".contains(c));
                let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                Ok(Some(Token::Word(Zeroizing::new(word.to_owned()))))
            }
        }
    }

    fn quoted(&mut self, quote: char, text: &str) -> Result<Token>
    where
        Self: Sized,
    {
        // The whole capacity at once: a text that grows would leave copies behind.
        let mut word = Zeroizing::new(String::with_capacity(text.len()));
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    let start = self.rest.len() - text.len();
                    self.rest = &self.rest[start + at + c.len_utf8()..];
                    return Ok(Token::Word(word));
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => word.push('\n'),
                    Some((_, 't')) => word.push('\t'),
                    Some((_, 'r')) => word.push('\r'),
                    Some((_, other)) => word.push(other),
                    None => break,
                },
                _ => word.push(c),
            }
        }
        Err(wrong("has a quote that is not closed"))
    }

    /// White space and comments.
    fn skip_blanks(&mut self) -> Result<()> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix("//") {
                self.rest = comment.split_once('\n').map_or("", |(_, after)| after);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let after = comment.split_once("*/").map(|(_, after)| after);
                self.rest = after.ok_or_else(|| wrong("has a comment that is not closed"))?;
            } else {
                return Ok(());
            }
        }
    }
}

fn wrong(what: &'static str) -> Error {
    mistake(format!(
        "sasl.jaas.config {what}; it must look like: org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"NAME\" password=\"PASSWORD\";"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_java_reads_it() {
        for text in [
            r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="a \"b\\ c;=d";"#,
            "PlainLoginModule REQUIRED // who\n username='alice' /* and */ password = 'a \"b\\\\ c;=d' ;",
        ] {
            let entry = Entry::parse(text).unwrap();
            assert_eq!(entry.module, "PlainLoginModule");
            assert_eq!(
                (entry.option("username"), entry.option("password")),
                (Some("alice"), Some("a \"b\\ c;=d"))
            );
            assert_eq!(entry.option("tokenauth"), None);
        }
    }

    #[test]
    fn what_is_not_an_entry_is_refused_without_repeating_it() {
        for (text, why) in [
            ("", "names no login module"),
            ("Module username=canary;", "required"),
            ("Module required username=\"canary\"", "semicolon"),
            ("Module required username=\"canary;", "not closed"),
            ("Module required canary;", "without an equals sign"),
            ("Module required username=;", "without a value"),
            ("Module required; canary required;", "behind its semicolon"),
            ("Module required /* canary", "not closed"),
            ("Module required password=\"canary\\", "not closed"),
        ] {
            let error = Entry::parse(text).err().map(|error| error.to_string()).unwrap();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
