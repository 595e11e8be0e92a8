//! The broker's half of SASL, right or wrong as a test wants it.

use std::collections::HashMap;
use std::sync::Mutex;

use ottla_protocol::messages::*;
use ottla_protocol::sasl::scram::{ClientFinal, ClientFirst, Credential, Hash, ServerFinal, ServerFirst, auth_message};
use ottla_protocol::sasl::{Mechanism, plain};
use ottla_protocol::{ApiKey, ErrorCode};

use super::{Asked, Reply};

pub(crate) const USER: &str = "alice=bob,carol";
pub(crate) const PASSWORD: &str = "wonderl\u{e4}nd";

/// What a hostile or broken broker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    Nothing,
    /// It does not know the password.
    Signature,
    /// It answers another exchange.
    Nonce,
    Iterations(u32),
    /// It answers SaslAuthenticate with these bytes.
    Garbage(&'static [u8]),
    /// It announces so many bytes and sends few.
    Announces(i32),
    /// It does not answer SaslAuthenticate.
    Silence,
}

/// Knows one user.
pub(crate) struct SaslServer {
    pub offered: Vec<Mechanism>,
    pub spoil: Spoil,
    pub lifetime_ms: i64,
    /// Users are accepted while this is false.
    pub refuses: Mutex<bool>,
    chosen: Mutex<Option<Mechanism>>,
    /// Exchanges under way by nonce: first messages of client and broker.
    exchanges: Mutex<HashMap<String, (String, String)>>,
}

impl SaslServer {
    pub fn new(offered: &[Mechanism]) -> SaslServer {
        SaslServer {
            offered: offered.to_vec(),
            spoil: Spoil::Nothing,
            lifetime_ms: 0,
            refuses: Mutex::new(false),
            chosen: Mutex::default(),
            exchanges: Mutex::default(),
        }
    }

    /// The answer to a request of SASL, or the usual one.
    pub fn answer(&self, asked: &Asked<'_>) -> Reply {
        match asked.api {
            ApiKey::SaslHandshake => self.handshake(asked),
            ApiKey::SaslAuthenticate => self.authenticate(asked),
            _ => asked.usual(),
        }
    }

    fn handshake(&self, asked: &Asked<'_>) -> Reply {
        let request: SaslHandshakeRequest<'_> = asked.request();
        let chosen = Mechanism::from_name(request.mechanism).filter(|chosen| self.offered.contains(chosen));
        *self.chosen.lock().unwrap() = chosen;
        let error_code = if chosen.is_some() {
            0
        } else {
            ErrorCode::UnsupportedSaslMechanism.code()
        };
        asked.answer(&SaslHandshakeResponse {
            error_code,
            mechanisms: self.offered.iter().map(|offered| offered.name()).collect(),
        })
    }

    fn authenticate(&self, asked: &Asked<'_>) -> Reply {
        match self.spoil {
            Spoil::Silence => return Reply::Silence,
            Spoil::Garbage(bytes) => return self.accept(asked, bytes),
            Spoil::Announces(length) => return Reply::Bytes([&length.to_be_bytes()[..], &[0; 8]].concat()),
            _ => {}
        }
        let request: SaslAuthenticateRequest<'_> = asked.request();
        let chosen = self.chosen.lock().unwrap().unwrap();
        let Some(hash) = chosen.scram_hash() else {
            let said = plain::Credentials::decode(request.auth_bytes).unwrap();
            return if (said.username, said.password) == (USER, PASSWORD) && !*self.refuses.lock().unwrap() {
                self.accept(asked, b"")
            } else {
                refuse(asked)
            };
        };
        match ClientFirst::parse(request.auth_bytes) {
            Ok(first) => self.first(asked, &first, hash),
            Err(_) => self.last(asked, &ClientFinal::parse(request.auth_bytes).unwrap(), hash),
        }
    }

    fn first(&self, asked: &Asked<'_>, first: &ClientFirst<'_>, hash: Hash) -> Reply {
        assert_eq!(first.username, USER);
        let nonce = match self.spoil {
            Spoil::Nonce => "another".to_owned(),
            _ => format!("{}server", first.nonce),
        };
        let credential = credential(hash);
        let iterations = match self.spoil {
            Spoil::Iterations(count) => count,
            _ => credential.iterations,
        };
        let answer = ServerFirst::format(&nonce, &credential.salt, iterations);
        let said = (first.bare.to_owned(), answer.clone());
        self.exchanges.lock().unwrap().insert(nonce, said);
        self.accept(asked, answer.as_bytes())
    }

    fn last(&self, asked: &Asked<'_>, last: &ClientFinal<'_>, hash: Hash) -> Reply {
        assert_eq!(last.channel_binding, b"n,,");
        let (client_first, server_first) = self.exchanges.lock().unwrap().remove(last.nonce).unwrap();
        let said = auth_message(&client_first, &server_first, last.without_proof);
        let credential = credential(hash);
        if !hash.proof_is_right(&credential.stored_key, &said, &last.proof) || *self.refuses.lock().unwrap() {
            return refuse(asked);
        }
        let key = match self.spoil {
            Spoil::Signature => &credential.stored_key,
            _ => &credential.server_key,
        };
        let signature = ServerFinal::format_signature(hash.signature(key, &said).as_bytes());
        self.accept(asked, signature.as_bytes())
    }

    fn accept(&self, asked: &Asked<'_>, bytes: &[u8]) -> Reply {
        asked.answer(&SaslAuthenticateResponse {
            auth_bytes: bytes,
            session_lifetime_ms: self.lifetime_ms,
            ..Default::default()
        })
    }
}

fn credential(hash: Hash) -> Credential {
    Credential::from_password(hash, PASSWORD, *b"0123456789", 4096)
}

fn refuse(asked: &Asked<'_>) -> Reply {
    asked.answer(&SaslAuthenticateResponse {
        error_code: ErrorCode::SaslAuthenticationFailed.code(),
        error_message: Some("Authentication failed: Invalid username or password"),
        ..Default::default()
    })
}
