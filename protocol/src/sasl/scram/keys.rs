//! The arithmetic: from a password to keys, proofs and signatures.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A key, proof or signature: as many bytes as its hash gives. Wiped when it is dropped, compared in constant time.
#[derive(Clone)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// Takes bytes that come from a store or a message.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Key(Zeroizing::new(bytes.into()))
    }

    /// The bytes. What they are must not be logged.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn xor(mut self, other: &Key) -> Key {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine ^= theirs;
        }
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Hash {
    /// Bytes of this hash, and so of every key.
    pub const fn bytes(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    /// The password, stretched. Takes time in proportion to `iterations`, some 0.2 µs each: an iteration count from the
    /// other side needs a bound before it comes here.
    pub fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Key {
        let mut salted = Zeroizing::new(vec![0; self.bytes()]);
        match self {
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
            Hash::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted),
        }
        Key(salted)
    }

    /// What a client derives its proof from.
    pub fn client_key(self, salted_password: &Key) -> Key {
        self.hmac(salted_password, b"Client Key")
    }

    /// What a broker stores to check a client's proof.
    pub fn stored_key(self, client_key: &Key) -> Key {
        Key(Zeroizing::new(match self {
            Hash::Sha256 => Sha256::digest(client_key.as_bytes()).to_vec(),
            Hash::Sha512 => Sha512::digest(client_key.as_bytes()).to_vec(),
        }))
    }

    /// What a broker stores to sign with.
    pub fn server_key(self, salted_password: &Key) -> Key {
        self.hmac(salted_password, b"Server Key")
    }

    /// A signature with the stored key (the client's) or the server key (the broker's).
    pub fn signature(self, key: &Key, auth_message: &str) -> Key {
        self.hmac(key, auth_message.as_bytes())
    }

    /// What the client sends: its key, hidden by a signature that only who knows the stored key can take away.
    pub fn client_proof(self, salted_password: &Key, auth_message: &str) -> Key {
        let client_key = self.client_key(salted_password);
        let signature = self.signature(&self.stored_key(&client_key), auth_message);
        client_key.xor(&signature)
    }

    /// Whether `proof` was made by somebody who knows the password behind `stored_key`.
    pub fn proof_is_right(self, stored_key: &Key, auth_message: &str, proof: &[u8]) -> bool {
        if proof.len() != self.bytes() {
            return false;
        }
        let client_key = Key::new(proof).xor(&self.signature(stored_key, auth_message));
        self.stored_key(&client_key) == *stored_key
    }

    /// Whether `signature` was made by a broker that knows the password.
    pub fn signature_is_right(self, server_key: &Key, auth_message: &str, signature: &[u8]) -> bool {
        self.signature(server_key, auth_message) == Key::new(signature)
    }

    fn hmac(self, key: &Key, message: &[u8]) -> Key {
        match self {
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Hash::Sha512 => mac::<Hmac<Sha512>>(key, message),
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &Key, message: &[u8]) -> Key {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key.as_bytes()) else {
        unreachable!("HMAC takes keys of every length")
    };
    mac.update(message);
    let mut output = mac.finalize().into_bytes();
    let key = Key::new(output.to_vec());
    output.as_mut_slice().zeroize();
    key
}

/// What a broker stores for a user: enough to check a password, not enough to log in elsewhere with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The hash that the keys were made with.
    pub hash: Hash,
    /// The salt.
    pub salt: Vec<u8>,
    /// The number of iterations.
    pub iterations: u32,
    /// The stored key.
    pub stored_key: Key,
    /// The server key.
    pub server_key: Key,
}

impl Credential {
    /// From a password. See [`Hash::salted_password`] for the time it takes.
    pub fn from_password(hash: Hash, password: &str, salt: impl Into<Vec<u8>>, iterations: u32) -> Self {
        let salt = salt.into();
        let salted = hash.salted_password(password.as_bytes(), &salt, iterations);
        Self::from_salted_password(hash, &salted, salt, iterations)
    }

    /// From a password that was stretched already, as AlterUserScramCredentials sends it.
    pub fn from_salted_password(hash: Hash, salted: &Key, salt: impl Into<Vec<u8>>, iterations: u32) -> Self {
        Credential {
            hash,
            salt: salt.into(),
            iterations,
            stored_key: hash.stored_key(&hash.client_key(salted)),
            server_key: hash.server_key(salted),
        }
    }
}

/// Random bytes as a text that a nonce may be: letters, digits, `-` and `_`.
pub fn random_text(random: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random)
}
