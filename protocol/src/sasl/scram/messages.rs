//! The four messages: read from bytes and written as text.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::{SaslError, text};

/// What proof and signature are made over.
pub fn auth_message(client_first_bare: &str, server_first: &str, client_final_without_proof: &str) -> String {
    format!("{client_first_bare},{server_first},{client_final_without_proof}")
}

/// The client says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// Whom it wants to act as; `None` for itself.
    pub authorization_id: Option<Cow<'a, str>>,
    /// The user's name, as it is, not as it is escaped.
    pub username: Cow<'a, str>,
    /// The client's nonce.
    pub nonce: &'a str,
    /// Whether the name is the id of a delegation token (Kafka's extension `tokenauth=true`).
    pub token_auth: bool,
    /// What stands before the bare message, with its comma at the end; the client's final message repeats it.
    pub gs2_header: &'a str,
    /// The message without that header: the first part of the [`auth_message`].
    pub bare: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Writes the bare message; the whole one is `n,,` and this.
    ///
    /// # Errors
    /// The name is empty, or the nonce has a character that it must not have.
    pub fn format_bare(username: &str, nonce: &str) -> Result<String, SaslError> {
        const MESSAGE: &str = "SCRAM client-first";
        if username.is_empty() || username.contains('\0') {
            return Err(refused(MESSAGE, "has an empty user name, or one with a NUL"));
        }
        check_nonce(MESSAGE, nonce)?;
        let escaped = username.replace('=', "=3D").replace(',', "=2C");
        Ok(format!("n={escaped},r={nonce}"))
    }

    /// Reads the message.
    ///
    /// # Errors
    /// It is malformed, or wants channel binding or another thing that is not supported.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SaslError> {
        const MESSAGE: &str = "SCRAM client-first";
        let whole = text(MESSAGE, bytes)?;
        let mut parts = whole.splitn(3, ',');
        let (Some(binding), Some(authorization), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refused(MESSAGE, "has no header"));
        };
        if binding != "n" {
            return Err(refused(MESSAGE, "wants channel binding, which is not supported"));
        }
        let authorization_id = match authorization {
            "" => None,
            given => {
                let name = given.strip_prefix("a=");
                Some(unescape(
                    MESSAGE,
                    name.ok_or_else(|| refused(MESSAGE, "has a malformed header"))?,
                )?)
            }
        };
        let mut attributes = Attributes::new(MESSAGE, bare)?;
        let username = unescape(MESSAGE, attributes.take('n')?)?;
        let nonce = attributes.nonce()?;
        let token_auth = attributes.extensions()?.any(|extension| extension == "tokenauth=true");
        Ok(ClientFirst {
            authorization_id,
            username,
            nonce,
            token_auth,
            gs2_header: &whole[..whole.len() - bare.len()],
            bare,
        })
    }
}

/// The broker says how the password is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFirst<'a> {
    /// The client's nonce, and the broker's after it.
    pub nonce: &'a str,
    /// The salt; not empty.
    pub salt: Vec<u8>,
    /// How often the hash was applied; at least 1.
    pub iterations: u32,
    /// The whole message: the second part of the [`auth_message`].
    pub text: &'a str,
}

impl<'a> ServerFirst<'a> {
    /// Writes the message. `nonce` is the client's and the broker's together.
    pub fn format(nonce: &str, salt: &[u8], iterations: u32) -> String {
        format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt))
    }

    /// Reads the message.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SaslError> {
        const MESSAGE: &str = "SCRAM server-first";
        let text = text(MESSAGE, bytes)?;
        let mut attributes = Attributes::new(MESSAGE, text)?;
        let nonce = attributes.nonce()?;
        let salt = attributes.bytes('s')?;
        let count = attributes.take('i')?;
        let digits = count.bytes().all(|digit| digit.is_ascii_digit());
        let iterations = count.parse().ok().filter(|count| digits && *count > 0);
        let iterations = iterations.ok_or_else(|| refused(MESSAGE, "has an iteration count that cannot be"))?;
        if salt.is_empty() {
            return Err(refused(MESSAGE, "has an empty salt"));
        }
        attributes.end()?;
        Ok(ServerFirst {
            nonce,
            salt,
            iterations,
            text,
        })
    }
}

/// The client proves that it knows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// The header of the client's first message, repeated: `n,,`.
    pub channel_binding: Vec<u8>,
    /// Both nonces, repeated.
    pub nonce: &'a str,
    /// The proof.
    pub proof: Vec<u8>,
    /// The message up to the proof: the third part of the [`auth_message`].
    pub without_proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    /// Writes the message up to the proof; the whole one is this, `,p=` and the proof in base64
    /// ([`ClientFinal::with_proof`]).
    pub fn format_without_proof(gs2_header: &str, nonce: &str) -> String {
        format!("c={},r={nonce}", STANDARD.encode(gs2_header))
    }

    /// Writes the whole message.
    pub fn with_proof(without_proof: &str, proof: &[u8]) -> String {
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    /// Reads the message.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SaslError> {
        const MESSAGE: &str = "SCRAM client-final";
        let whole = text(MESSAGE, bytes)?;
        let (without_proof, proof) = whole
            .rsplit_once(",p=")
            .ok_or_else(|| refused(MESSAGE, "has no proof"))?;
        let mut attributes = Attributes::new(MESSAGE, without_proof)?;
        let channel_binding = attributes.bytes('c')?;
        let nonce = attributes.nonce()?;
        attributes.end()?;
        Ok(ClientFinal {
            channel_binding,
            nonce,
            proof: base64(MESSAGE, proof)?,
            without_proof,
        })
    }
}

impl fmt::Debug for ClientFinal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFinal")
            .field("nonce", &self.nonce)
            .finish_non_exhaustive()
    }
}

/// The broker accepts, and proves that it knows the password too; or says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFinal<'a> {
    /// Accepted; the signature is to be checked.
    Signature(Vec<u8>),
    /// Refused, in the broker's words (`invalid-proof`, `unknown-user`, ...).
    Error(&'a str),
}

impl<'a> ServerFinal<'a> {
    /// Writes the message that accepts.
    pub fn format_signature(signature: &[u8]) -> String {
        format!("v={}", STANDARD.encode(signature))
    }

    /// Writes the message that refuses. `error` is one of the RFC's words, such as `invalid-proof`; characters that the
    /// message cannot carry become `-`.
    pub fn format_error(error: &str) -> String {
        let allowed = |c: char| c.is_ascii_graphic() && c != ',' && c != '=';
        let words: String = error.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
        format!("e={words}")
    }

    /// Reads the message.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SaslError> {
        const MESSAGE: &str = "SCRAM server-final";
        let whole = text(MESSAGE, bytes)?;
        let mut attributes = Attributes::new(MESSAGE, whole)?;
        if whole.starts_with("e=") {
            return Ok(ServerFinal::Error(attributes.take('e')?));
        }
        let signature = attributes.bytes('v')?;
        attributes.end()?;
        Ok(ServerFinal::Signature(signature))
    }
}

/// `name=value` between commas, in a fixed order.
struct Attributes<'a> {
    message: &'static str,
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    fn new(message: &'static str, text: &'a str) -> Result<Self, SaslError> {
        if text.starts_with("m=") {
            return Err(refused(message, "has a mandatory extension, which is not supported"));
        }
        if text.contains('\0') {
            return Err(refused(message, "contains a NUL"));
        }
        Ok(Attributes {
            message,
            rest: Some(text),
        })
    }

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let (first, after) = rest
            .split_once(',')
            .map_or((rest, None), |(first, after)| (first, Some(after)));
        self.rest = after;
        Some(first)
    }

    /// The value of the attribute that has to come now; not empty.
    fn take(&mut self, name: char) -> Result<&'a str, SaslError> {
        let value = self
            .next()
            .and_then(|attribute| attribute.strip_prefix(name)?.strip_prefix('='));
        value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| refused(self.message, "lacks an attribute, or has it in another place"))
    }

    fn nonce(&mut self) -> Result<&'a str, SaslError> {
        let nonce = self.take('r')?;
        check_nonce(self.message, nonce)?;
        Ok(nonce)
    }

    fn bytes(&mut self, name: char) -> Result<Vec<u8>, SaslError> {
        base64(self.message, self.take(name)?)
    }

    /// Nothing but extensions may be left; they are ignored.
    fn end(self) -> Result<(), SaslError> {
        self.extensions().map(drop)
    }

    /// What is left must look like extensions.
    fn extensions(self) -> Result<impl Iterator<Item = &'a str>, SaslError> {
        let malformed = |extension: &str| {
            let name = extension.split_once('=').map_or("", |(name, _)| name);
            name.is_empty() || !name.bytes().all(|letter| letter.is_ascii_alphabetic())
        };
        let all = self.rest.into_iter().flat_map(|rest| rest.split(','));
        if all.clone().any(malformed) {
            return Err(refused(self.message, "has something behind its attributes"));
        }
        Ok(all)
    }
}

/// A nonce is printable ASCII without commas.
fn check_nonce(message: &'static str, nonce: &str) -> Result<(), SaslError> {
    if !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        return Ok(());
    }
    Err(refused(message, "has a nonce with a character that it must not have"))
}

fn base64(message: &'static str, value: &str) -> Result<Vec<u8>, SaslError> {
    STANDARD
        .decode(value)
        .map_err(|_| refused(message, "has a value that is not base64"))
}

/// A `saslname` as the name that it stands for: `=2C` is a comma and `=3D` an equals sign; no other `=` may stand there.
fn unescape<'a>(message: &'static str, name: &'a str) -> Result<Cow<'a, str>, SaslError> {
    let mut pieces = name.split('=');
    let first = pieces.next().unwrap_or_default();
    if first.len() == name.len() && !name.is_empty() {
        return Ok(Cow::Borrowed(name));
    }
    let mut out = first.to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return Err(refused(message, "has a name that is not escaped as it must be")),
        };
        out.push(sign);
        out.push_str(rest);
    }
    if out.is_empty() {
        return Err(refused(message, "has an empty name"));
    }
    Ok(Cow::Owned(out))
}

fn refused(message: &'static str, reason: &'static str) -> SaslError {
    SaslError { message, reason }
}
