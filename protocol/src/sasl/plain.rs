//! PLAIN (RFC 4616): one message, `authzid NUL authcid NUL password`.

use std::fmt;

use zeroize::Zeroizing;

use super::{SaslError, text};

const MESSAGE: &str = "PLAIN";

/// What a client says of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Whom it wants to act as; empty for itself. Kafka takes the empty one and the user's own name.
    pub authorization_id: &'a str,
    /// The user's name.
    pub username: &'a str,
    /// The user's password.
    pub password: &'a str,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authorization_id", &self.authorization_id)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl<'a> Credentials<'a> {
    /// Writes the message. The buffer is wiped when it is dropped.
    ///
    /// # Errors
    /// Name or password are empty, or one of the three contains a NUL.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SaslError> {
        self.check()?;
        // The whole size at once: a buffer that grows would leave copies behind.
        let length = self.authorization_id.len() + self.username.len() + self.password.len() + 2;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(self.authorization_id.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.username.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.password.as_bytes());
        Ok(bytes)
    }

    /// Reads the message.
    ///
    /// # Errors
    /// It is too long, is not UTF-8, has not exactly three parts, or an empty name or password.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SaslError> {
        let mut parts = text(MESSAGE, bytes)?.split('\0');
        let (Some(authorization_id), Some(username), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused("does not have exactly three parts"));
        };
        let credentials = Credentials {
            authorization_id,
            username,
            password,
        };
        credentials.check()?;
        Ok(credentials)
    }

    fn check(&self) -> Result<(), SaslError> {
        if self.username.is_empty() {
            return Err(refused("has an empty user name"));
        }
        if self.password.is_empty() {
            return Err(refused("has an empty password"));
        }
        let all = [self.authorization_id, self.username, self.password];
        if all.iter().any(|part| part.contains('\0')) {
            return Err(refused("has a NUL in a name or password"));
        }
        Ok(())
    }
}

fn refused(reason: &'static str) -> SaslError {
    SaslError {
        message: MESSAGE,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_come_out_and_go_in() {
        let tim = Credentials {
            authorization_id: "",
            username: "tim",
            password: "tanstaaftanstaaf",
        };
        assert_eq!(&**tim.encode().unwrap(), b"\0tim\0tanstaaftanstaaf");
        let kurt = b"Ursel\0Kurt\0xipj3plmq";
        let read = Credentials::decode(kurt).unwrap();
        assert_eq!(
            (read.authorization_id, read.username, read.password),
            ("Ursel", "Kurt", "xipj3plmq")
        );
        assert_eq!(&**read.encode().unwrap(), kurt);
    }

    #[test]
    fn what_is_not_three_parts_is_refused() {
        let long = [b'a'; super::super::MAX_MESSAGE_BYTES + 1];
        let bad: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\0a",
            b"\0a\0",
            b"\0\0b",
            b"\0a\0b\0c",
            b"\0\xff\0b",
            &long,
        ];
        for bytes in bad {
            assert!(Credentials::decode(bytes).is_err(), "{} bytes", bytes.len());
        }
        let sneaky = Credentials {
            authorization_id: "",
            username: "a\0b",
            password: "c",
        };
        assert!(sneaky.encode().is_err());
    }

    #[test]
    fn a_password_is_in_no_debug_output() {
        let read = Credentials::decode(b"\0tim\0canary").unwrap();
        assert!(!format!("{read:?}").contains("canary"));
    }
}
