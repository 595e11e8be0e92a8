//! Login modules: the users of a listener, as `sasl.jaas.config` names them.
//!
//! In: the text of a JAAS configuration, `CLASS required name="value" ... ;`. Out: the [`Users`] that its `user_NAME`
//! entries are. It knows the two modules that this broker serves, and refuses others by name.
//!
//! `user_NAME="PASSWORD"` is how Apache Kafka's PlainLoginModule lists users. For its ScramLoginModule the same entries are
//! an extension of this broker: Apache Kafka keeps the users of SCRAM in its metadata.
//!
//! No value appears in an error: it may be a password.

use std::collections::BTreeMap;
use std::fmt;

/// A text that appears in no log, no error and no `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for whoever checks or decodes it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

/// What stands where a secret is not shown.
pub(crate) const HIDDEN: &str = "[hidden]";

/// Names and passwords.
pub type Users = BTreeMap<String, Secret>;

/// A login module of Apache Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// For PLAIN.
    Plain,
    /// For the SCRAM mechanisms.
    Scram,
}

impl Module {
    /// The class that a JAAS configuration names.
    pub const fn class(self) -> &'static str {
        match self {
            Module::Plain => "org.apache.kafka.common.security.plain.PlainLoginModule",
            Module::Scram => "org.apache.kafka.common.security.scram.ScramLoginModule",
        }
    }
}

/// Reads a JAAS configuration: one module, or several behind each other.
///
/// # Errors
/// The rest of a sentence that begins with the key: what is wrong, without any value.
pub fn parse(text: &str) -> Result<Vec<(Module, Users)>, String> {
    let mut words = Words { rest: text };
    let mut modules = Vec::new();
    while let Some(class) = words.next()? {
        let module = module(&class)?;
        let flag = words.next()?.unwrap_or_default();
        if !matches!(&*flag, "required" | "requisite" | "sufficient" | "optional") {
            return Err(format!("must have \"required\" behind {}", module.class()));
        }
        modules.push((module, options(&mut words, module)?));
    }
    if modules.is_empty() {
        return Err("names no login module".to_owned());
    }
    Ok(modules)
}

fn module(class: &str) -> Result<Module, String> {
    let known = [Module::Plain, Module::Scram];
    let found = known.into_iter().find(|module| module.class() == class);
    found.ok_or_else(|| {
        // A text that is no class may be a password in the wrong place.
        let is_class = class.contains('.') && class.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        let shown = if is_class { class } else { "something else" };
        let [plain, scram] = known.map(Module::class);
        format!("must begin with {plain} or {scram}, not with {shown}")
    })
}

/// The options of one module, up to its semicolon. Only `user_` entries say something to this broker; `username` and
/// `password` are those of connections to other brokers, which it does not make.
fn options(words: &mut Words<'_>, module: Module) -> Result<Users, String> {
    let mut users = Users::new();
    loop {
        let Some(name) = words.next()? else {
            return Err(format!(
                "must end with a semicolon behind the options of {}",
                module.class()
            ));
        };
        if name == ";" {
            return Ok(users);
        }
        if words.next()?.as_deref() != Some("=") {
            return Err(format!(
                "must have options of the form name=\"value\" behind {}",
                module.class()
            ));
        }
        let value = words.next()?.filter(|value| value != ";" && value != "=");
        let value = value.ok_or_else(|| format!("has no value for {name}"))?;
        let Some(user) = name.strip_prefix("user_") else {
            continue;
        };
        if user.is_empty() || value.is_empty() {
            return Err(format!("has an empty name or password in {name}"));
        }
        if users.insert(user.to_owned(), Secret(value)).is_some() {
            return Err(format!("names the user {user} twice"));
        }
    }
}

/// Words, texts in quotes, and the signs `=` and `;`.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Option<String>, String> {
        self.rest = self.rest.trim_start();
        let mut characters = self.rest.chars();
        match characters.next() {
            None => Ok(None),
            Some(sign @ ('=' | ';')) => {
                self.rest = characters.as_str();
                Ok(Some(sign.to_string()))
            }
            Some(quote @ ('"' | '\'')) => {
                self.rest = characters.as_str();
                self.quoted(quote).map(Some)
            }
            Some(_) => {
                let ends = |character: char| character.is_whitespace() || matches!(character, '=' | ';' | '"' | '\'');
                let end = self.rest.find(ends).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                Ok(Some(word.to_owned()))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let (mut text, mut escaped) = (String::new(), false);
        for (at, character) in self.rest.char_indices() {
            match character {
                _ if escaped => {
                    text.push(character);
                    escaped = false;
                }
                '\\' => escaped = true,
                _ if character == quote => {
                    self.rest = &self.rest[at + character.len_utf8()..];
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err("has a quote that is not closed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = Module::Plain.class();
    const SCRAM: &str = Module::Scram.class();

    #[test]
    fn user_entries_become_users_and_other_options_do_not() {
        let text = format!(
            "{PLAIN} required\n  username=\"admin\" password='x'\n  user_alice=\"sec\\\"ret; = 'é\"\n  user_user_bob=pw;"
        );
        let modules = parse(&text).unwrap();
        let [(Module::Plain, users)] = &modules[..] else {
            panic!("{modules:?}")
        };
        let seen: Vec<_> = users.iter().map(|(name, secret)| (&**name, secret.expose())).collect();
        assert_eq!(seen, [("alice", "sec\"ret; = 'é"), ("user_bob", "pw")]);
        let both = parse(&format!("{PLAIN} required user_a=b; {SCRAM} required user_c=d;")).unwrap();
        assert_eq!(
            both.iter().map(|(module, _)| *module).collect::<Vec<_>>(),
            [Module::Plain, Module::Scram]
        );
    }

    #[test]
    fn what_is_not_a_login_module_is_refused_without_showing_values() {
        for (text, words) in [
            (String::new(), "names no login module"),
            ("canary".to_owned(), "not with something else"),
            (
                "com.sun.security.auth.module.Krb5LoginModule required;".to_owned(),
                "not with com.sun.security.auth",
            ),
            (format!("{PLAIN} user_a=\"canary\";"), "must have \"required\""),
            (
                format!("{PLAIN} required user_a=\"canary\""),
                "must end with a semicolon",
            ),
            (format!("{PLAIN} required user_a=\"canary"), "not closed"),
            (format!("{PLAIN} required user_a \"canary\";"), "name=\"value\""),
            (format!("{PLAIN} required user_a=;"), "no value for user_a"),
            (format!("{PLAIN} required user_a=\"\";"), "empty name or password"),
            (format!("{PLAIN} required user_=\"canary\";"), "empty name or password"),
            (
                format!("{PLAIN} required user_a=canary user_a=canary;"),
                "the user a twice",
            ),
        ] {
            let problem = parse(&text).unwrap_err();
            assert!(problem.contains(words), "{problem}");
            assert!(!problem.contains("canary"), "{problem}");
        }
        let users = parse(&format!("{PLAIN} required user_a=canary;")).unwrap();
        assert!(!format!("{users:?}").contains("canary"), "{users:?}");
    }
}
