//! What a session admits, and how authentications end.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::jaas::{Secret, Users as Passwords};
use ottla_protocol::sasl::scram::Key;
use proptest::prelude::*;
use std::sync::LazyLock;

fn session(max_reauth: Option<Duration>) -> Session {
    let users: Passwords = [("alice", "wonder"), ("bob", "builder")]
        .into_iter()
        .map(|(name, password)| (name.to_owned(), Secret::new(password)))
        .collect();
    let settings = SaslSettings {
        mechanisms: Mechanism::ALL
            .map(|mechanism| MechanismSettings {
                mechanism,
                users: users.clone(),
                max_reauth,
            })
            .to_vec(),
        max_receive_size: 1000,
    };
    Session::new(Arc::new(Policy::new(&settings, Duration::ZERO)))
}

fn plain(name: &str, password: &str) -> Vec<u8> {
    format!("\0{name}\0{password}").into_bytes()
}

/// A client of SCRAM, as far as it has come.
struct ScramClient {
    hash: Hash,
    bare: String,
}

impl ScramClient {
    fn begin(
        session: &Session,
        mechanism: Mechanism,
        header: &str,
        name: &str,
    ) -> Result<(ScramClient, String), String> {
        let now = Instant::now();
        assert_eq!(session.choose(mechanism.name(), 1, now), Choice::Chosen);
        let bare = ClientFirst::format_bare(name, "clientnonce").unwrap();
        match session.hear(format!("{header}{bare}").as_bytes(), now) {
            Outcome::Challenge(bytes) => {
                let hash = mechanism.scram_hash().unwrap();
                Ok((ScramClient { hash, bare }, String::from_utf8(bytes).unwrap()))
            }
            Outcome::Refused(text) => Err(text),
            other => panic!("{other:?}"),
        }
    }

    /// The last message, with `header` and `nonce`, and the salted password.
    fn last(&self, challenge: &str, password: &str, header: &str, nonce: &str) -> (Vec<u8>, Key, String) {
        let first = ServerFirst::parse(challenge.as_bytes()).unwrap();
        let salted = self
            .hash
            .salted_password(password.as_bytes(), &first.salt, first.iterations);
        let without_proof = ClientFinal::format_without_proof(header, nonce);
        let said = scram::auth_message(&self.bare, challenge, &without_proof);
        let proof = self.hash.client_proof(&salted, &said);
        (
            ClientFinal::with_proof(&without_proof, proof.as_bytes()).into_bytes(),
            salted,
            said,
        )
    }
}

fn nonce(challenge: &str) -> String {
    ServerFirst::parse(challenge.as_bytes()).unwrap().nonce.to_owned()
}

#[test]
fn before_authentication_nothing_but_its_own_requests_is_carried_out() {
    let session = session(None);
    let now = Instant::now();
    assert_eq!(session.admit(ApiKey::ApiVersions, now), Admission::CarryOut);
    assert_eq!(session.admit(ApiKey::SaslHandshake, now), Admission::CarryOut);
    for key in [ApiKey::Metadata, ApiKey::Produce, ApiKey::SaslAuthenticate] {
        assert_eq!(session.admit(key, now), Admission::TooEarly);
    }
    assert_eq!(session.hear(&plain("alice", "wonder"), now), Outcome::IllegalState);
    assert_eq!(session.choose("PLAIN", 1, now), Choice::Chosen);
    assert_eq!(session.admit(ApiKey::SaslAuthenticate, now), Admission::CarryOut);
    assert_eq!(session.admit(ApiKey::ApiVersions, now), Admission::IllegalState);
    assert_eq!(session.admit(ApiKey::SaslHandshake, now), Admission::IllegalState);
    assert_eq!(session.admit(ApiKey::Metadata, now), Admission::TooEarly);
    assert!(!session.is_authenticated());
    assert_eq!(
        session.hear(&plain("alice", "wonder"), now),
        Outcome::Accepted(vec![], None)
    );
    assert!(session.is_authenticated());
    assert_eq!(session.username().as_deref(), Some("alice"));
    assert_eq!(session.admit(ApiKey::Metadata, now), Admission::CarryOut);
    assert_eq!(session.choose("PLAIN", 1, now), Choice::IllegalState);
    assert_eq!(session.hear(&plain("alice", "wonder"), now), Outcome::IllegalState);
}

#[test]
fn plain_takes_the_right_password_of_the_user_itself() {
    for (message, words) in [
        (
            plain("alice", "builder"),
            "Authentication failed: Invalid username or password",
        ),
        (
            plain("nobody", "wonder"),
            "Authentication failed: Invalid username or password",
        ),
        (
            b"bob\0alice\0wonder".to_vec(),
            "authorization id that is different from username",
        ),
        (
            b"\0alice".to_vec(),
            "due to invalid credentials with SASL mechanism PLAIN",
        ),
        (plain("", "x"), "due to invalid credentials with SASL mechanism PLAIN"),
    ] {
        let session = session(None);
        let now = Instant::now();
        session.choose("PLAIN", 1, now);
        let Outcome::Refused(text) = session.hear(&message, now) else {
            panic!()
        };
        assert!(text.contains(words), "{text}");
        assert_eq!(session.admit(ApiKey::Metadata, now), Admission::Ignore);
        assert_eq!(
            session.hear(&plain("alice", "wonder"), now),
            Outcome::IllegalState,
            "one guess a connection"
        );
    }
    let session = session(None);
    session.choose("PLAIN", 1, Instant::now());
    let own = session.hear(b"alice\0alice\0wonder", Instant::now());
    assert_eq!(own, Outcome::Accepted(vec![], None));
}

#[test]
fn scram_takes_a_proof_and_gives_one() {
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let session = session(None);
        let (client, challenge) = ScramClient::begin(&session, mechanism, "n,,", "alice").unwrap();
        assert!(nonce(&challenge).starts_with("clientnonce"));
        let (last, salted, said) = client.last(&challenge, "wonder", "n,,", &nonce(&challenge));
        let Outcome::Accepted(answer, None) = session.hear(&last, Instant::now()) else {
            panic!()
        };
        let ServerFinal::Signature(signature) = ServerFinal::parse(&answer).unwrap() else {
            panic!()
        };
        assert!(
            client
                .hash
                .signature_is_right(&client.hash.server_key(&salted), &said, &signature)
        );
        assert_eq!(session.username().as_deref(), Some("alice"));
    }
}

#[test]
fn scram_says_the_same_whatever_is_wrong() {
    let attempt = |name: &str, password: &str, header: &str, forge: &dyn Fn(&str) -> String| {
        let session = session(None);
        let (client, challenge) = ScramClient::begin(&session, Mechanism::ScramSha256, "n,,", name).unwrap();
        let (last, ..) = client.last(&challenge, password, header, &forge(&nonce(&challenge)));
        match session.hear(&last, Instant::now()) {
            Outcome::Refused(text) => text,
            other => panic!("{other:?}"),
        }
    };
    let same = |nonce: &str| nonce.to_owned();
    let words =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256";
    assert_eq!(attempt("alice", "builder", "n,,", &same), words);
    assert_eq!(attempt("nobody", "wonder", "n,,", &same), words);
    assert_eq!(
        attempt("alice", "wonder", "y,,", &same),
        words,
        "another header than in the first message"
    );
    assert_eq!(
        attempt("alice", "wonder", "n,,", &|nonce| format!("{nonce}x")),
        words,
        "another nonce (CVE-2024-56128)"
    );
    let session = session(None);
    let other = ScramClient::begin(&session, Mechanism::ScramSha256, "n,a=bob,", "alice")
        .err()
        .unwrap();
    assert!(other.contains("different from username"), "{other}");
}

#[test]
fn a_proof_holds_for_its_own_exchange_only() {
    let (one, other) = (session(None), session(None));
    let (client, challenge) = ScramClient::begin(&one, Mechanism::ScramSha256, "n,,", "alice").unwrap();
    let (last, ..) = client.last(&challenge, "wonder", "n,,", &nonce(&challenge));
    ScramClient::begin(&other, Mechanism::ScramSha256, "n,,", "alice").unwrap();
    assert!(matches!(other.hear(&last, Instant::now()), Outcome::Refused(_)));
    assert!(matches!(one.hear(&last, Instant::now()), Outcome::Accepted(..)));
}

#[test]
fn a_mechanism_that_is_not_enabled_is_the_end() {
    let session = session(None);
    let now = Instant::now();
    assert_eq!(session.choose("GSSAPI", 1, now), Choice::Unsupported);
    assert_eq!(session.admit(ApiKey::SaslHandshake, now), Admission::Ignore);
    assert_eq!(session.choose("PLAIN", 1, now), Choice::IllegalState);
}

#[test]
fn an_authentication_holds_for_its_time_and_is_renewed_by_the_same_user_in_the_same_way() {
    let lifetime = Duration::from_secs(10);
    let known = || {
        let session = session(Some(lifetime));
        let now = Instant::now();
        session.choose("PLAIN", 1, now);
        assert_eq!(
            session.hear(&plain("alice", "wonder"), now),
            Outcome::Accepted(vec![], Some(lifetime))
        );
        (session, now)
    };
    let (session, start) = known();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    assert_eq!(session.admit(ApiKey::Metadata, at(10)), Admission::CarryOut);
    assert_eq!(session.admit(ApiKey::Metadata, at(11)), Admission::Expired);
    assert_eq!(
        session.choose("PLAIN", 1, start),
        Choice::IllegalState,
        "at most once a second"
    );
    assert_eq!(session.admit(ApiKey::SaslHandshake, at(11)), Admission::CarryOut);
    assert_eq!(session.choose("PLAIN", 1, at(11)), Choice::Chosen);
    assert!(session.is_authenticated(), "the limits of strangers do not come back");
    assert_eq!(session.admit(ApiKey::Metadata, at(11)), Admission::TooEarly);
    assert_eq!(
        session.hear(&plain("alice", "wonder"), at(12)),
        Outcome::Accepted(vec![], Some(lifetime))
    );
    assert_eq!(session.admit(ApiKey::Metadata, at(22)), Admission::CarryOut);
    assert_eq!(session.admit(ApiKey::Metadata, at(23)), Admission::Expired);

    let again = |mechanism: &str, message: &[u8]| {
        let (session, start) = known();
        let later = start + Duration::from_secs(2);
        assert_eq!(session.choose(mechanism, 1, later), Choice::Chosen);
        match session.hear(message, later) {
            Outcome::Refused(text) => text,
            other => panic!("{other:?}"),
        }
    };
    assert!(again("PLAIN", &plain("bob", "builder")).contains("Cannot change principals during re-authentication"));
    assert!(again("SCRAM-SHA-256", b"n,,n=alice,r=x").contains("is not supported for re-authentication of mechanism"));
    assert!(again("PLAIN", &plain("alice", "x")).contains("Invalid username or password"));
}

proptest! {
    #[test]
    fn no_message_is_too_strange(
        mechanism in 0..3_usize,
        head in prop::sample::select(vec![&b""[..], b"n,,n=alice,r=", b"n,a=alice,", b"c=biws,r=", b"\0alice\0"]),
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
    ) {
        // Made once: passwords take their time.
        static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| session(None).policy);
        let session = Session::new(Arc::clone(&POLICY));
        let now = Instant::now();
        session.choose(Mechanism::ALL[mechanism].name(), 1, now);
        for message in messages {
            let outcome = session.hear(&[head, &message[..]].concat(), now);
            prop_assert!(!matches!(outcome, Outcome::Accepted(..)), "{outcome:?}");
        }
    }
}

#[test]
fn messages_are_bare_after_a_handshake_of_version_0() {
    let session = session(None);
    let now = Instant::now();
    assert!(!session.takes_bare_messages());
    session.choose("PLAIN", 0, now);
    assert!(session.takes_bare_messages());
    session.hear(&plain("alice", "wonder"), now);
    assert!(!session.takes_bare_messages());
}

#[test]
fn what_a_session_shows_of_itself_has_no_password_in_it() {
    let session = session(None);
    session.choose("PLAIN", 1, Instant::now());
    session.hear(&plain("alice", "wonder"), Instant::now());
    let shown = format!("{session:?}");
    assert!(!shown.contains("wonder") && !shown.contains("builder"), "{shown}");
}
