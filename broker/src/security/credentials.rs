//! Credentials: whether somebody knows a user's password, without saying whether there is such a user.
//!
//! In: the users of one mechanism, with their passwords. Out: verdicts. What is kept is not the passwords: for PLAIN a keyed
//! hash of each, for SCRAM what its RFC has a server store.
//!
//! A user that is not there costs the same work and gets the same answers as one that is: SCRAM shows a salt that is made up
//! from the name, always the same for the same name.

use crate::config::jaas::Users;
use ottla_protocol::sasl::scram::{Credential, Hash, Key};
use rand::Rng;
use std::collections::BTreeMap;
use std::fmt;

/// How often SCRAM hashes a password: Kafka's least, and its default.
pub const ITERATIONS: u32 = 4096;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Random bytes from the operating system's generator, by way of the thread's.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Users of PLAIN.
pub struct PlainUsers {
    /// Made at the start: what is kept of a password says nothing elsewhere.
    pepper: Key,
    users: BTreeMap<String, Key>,
    /// Stands in for a user that is not there.
    nobody: Key,
}

impl PlainUsers {
    /// Takes the users in.
    pub fn new(users: &Users) -> Self {
        let pepper = Key::new(random_bytes::<32>());
        let keep = |password: &str| Hash::Sha256.signature(&pepper, password);
        PlainUsers {
            users: users
                .iter()
                .map(|(name, password)| (name.clone(), keep(password.expose())))
                .collect(),
            nobody: Key::new(random_bytes::<32>()),
            pepper,
        }
    }

    /// Whether `password` is that of `name`.
    pub fn is_right(&self, name: &str, password: &str) -> bool {
        let offered = Hash::Sha256.signature(&self.pepper, password);
        let kept = self.users.get(name);
        let same = offered == *kept.unwrap_or(&self.nobody);
        same && kept.is_some()
    }
}

impl fmt::Debug for PlainUsers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PlainUsers({})", self.users.len())
    }
}

/// Users of SCRAM, with one hash.
pub struct ScramUsers {
    hash: Hash,
    /// Salts come from it, those of users that are there and those of others alike.
    secret: Key,
    users: BTreeMap<String, Credential>,
}

impl ScramUsers {
    /// Takes the users in. Stretches each password: some milliseconds.
    pub fn new(hash: Hash, users: &Users) -> Self {
        let secret = Key::new(random_bytes::<32>());
        let credential =
            |name: &str, password: &str| Credential::from_password(hash, password, salt(&secret, name), ITERATIONS);
        ScramUsers {
            hash,
            users: users
                .iter()
                .map(|(name, password)| (name.clone(), credential(name, password.expose())))
                .collect(),
            secret,
        }
    }

    /// The hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// What is shown to whoever says that they are `name`, and whether there is such a user: a proof for one that is not
    /// there must not be accepted, whatever it is.
    pub fn find(&self, name: &str) -> (Credential, bool) {
        // Made up in any case, so that it takes the same time.
        let made_up = self.make_up(name);
        match self.users.get(name) {
            Some(credential) => (credential.clone(), true),
            None => (made_up, false),
        }
    }

    fn make_up(&self, name: &str) -> Credential {
        let key = Hash::Sha512.signature(&self.secret, &format!("key {name}"));
        let (key, _) = key.as_bytes().split_at(self.hash.bytes());
        Credential {
            hash: self.hash,
            salt: salt(&self.secret, name),
            iterations: ITERATIONS,
            stored_key: Key::new(key),
            server_key: Key::new(key),
        }
    }
}

impl fmt::Debug for ScramUsers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ScramUsers({:?}, {})", self.hash, self.users.len())
    }
}

fn salt(secret: &Key, name: &str) -> Vec<u8> {
    let mut salt = Hash::Sha256
        .signature(secret, &format!("salt {name}"))
        .as_bytes()
        .to_vec();
    salt.truncate(SALT_BYTES);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::jaas::Secret;

    fn users(pairs: &[(&str, &str)]) -> Users {
        pairs
            .iter()
            .map(|(name, password)| ((*name).to_owned(), Secret::new(*password)))
            .collect()
    }

    #[test]
    fn only_the_password_of_the_user_is_right() {
        let plain = PlainUsers::new(&users(&[("alice", "a"), ("bob", "b")]));
        assert!(plain.is_right("alice", "a") && plain.is_right("bob", "b"));
        for (name, password) in [
            ("alice", "b"),
            ("alice", ""),
            ("alice", "aa"),
            ("carol", "a"),
            ("", "a"),
        ] {
            assert!(!plain.is_right(name, password), "{name} {password}");
        }
    }

    #[test]
    fn a_user_that_is_not_there_looks_like_one_that_is() {
        for hash in [Hash::Sha256, Hash::Sha512] {
            let scram = ScramUsers::new(hash, &users(&[("alice", "a")]));
            let (alice, is_there) = scram.find("alice");
            assert!(is_there);
            let (nobody, is_there) = scram.find("nobody");
            assert!(!is_there);
            assert_eq!(
                nobody,
                scram.find("nobody").0,
                "the same salt each time, as a user that is there has"
            );
            assert_ne!(nobody.salt, alice.salt);
            assert_ne!(nobody.salt, scram.find("nobody2").0.salt);
            assert_eq!(
                (nobody.salt.len(), nobody.iterations),
                (alice.salt.len(), alice.iterations)
            );
            assert_eq!(nobody.stored_key.as_bytes().len(), alice.stored_key.as_bytes().len());
        }
    }
}
