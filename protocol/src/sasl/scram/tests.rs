//! The example of RFC 7677, a whole exchange with each hash, and what must be refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::super::{MAX_MESSAGE_BYTES, Mechanism};
use super::*;

#[test]
fn the_example_of_rfc_7677() {
    let hash = Hash::Sha256;
    let bare = ClientFirst::format_bare("user", "rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(bare, "n=user,r=rOprNGfwEbeRWgbNEkqO");
    let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let first = ServerFirst::parse(server_first.as_bytes()).unwrap();
    assert_eq!(first.iterations, 4096);
    let without_proof = ClientFinal::format_without_proof("n,,", first.nonce);
    let said = auth_message(&bare, first.text, &without_proof);
    let salted = hash.salted_password(b"pencil", &first.salt, first.iterations);
    let proof = hash.client_proof(&salted, &said);
    assert_eq!(
        ClientFinal::with_proof(&without_proof, proof.as_bytes()),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let last = ServerFinal::parse(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    let ServerFinal::Signature(signature) = last else {
        panic!("{last:?}");
    };
    let server_key = hash.server_key(&salted);
    assert!(hash.signature_is_right(&server_key, &said, &signature));
    assert!(!hash.signature_is_right(&server_key, "another", &signature));
}

/// One exchange as both sides see it; true if the broker accepts the proof and the client the signature.
fn exchange(hash: Hash, stored: &str, typed: &str) -> (bool, bool) {
    let credential = Credential::from_password(hash, stored, *b"some salt", 4096);
    let bare = ClientFirst::format_bare("a,b=c", "mine").unwrap();
    let whole = format!("n,,{bare}");
    let first = ClientFirst::parse(whole.as_bytes()).unwrap();
    assert_eq!(
        (&*first.username, first.nonce, first.gs2_header),
        ("a,b=c", "mine", "n,,")
    );
    let answer = ServerFirst::format("mineyours", &credential.salt, credential.iterations);
    let answer = ServerFirst::parse(answer.as_bytes()).unwrap();
    let without_proof = ClientFinal::format_without_proof("n,,", answer.nonce);
    let said = auth_message(&bare, answer.text, &without_proof);
    let salted = hash.salted_password(typed.as_bytes(), &answer.salt, answer.iterations);
    let last = ClientFinal::with_proof(&without_proof, hash.client_proof(&salted, &said).as_bytes());
    let last = ClientFinal::parse(last.as_bytes()).unwrap();
    assert_eq!((&*last.channel_binding, last.nonce), (&b"n,,"[..], "mineyours"));
    let heard = auth_message(first.bare, answer.text, last.without_proof);
    let accepted = hash.proof_is_right(&credential.stored_key, &heard, &last.proof);
    let signature = ServerFinal::format_signature(hash.signature(&credential.server_key, &heard).as_bytes());
    let ServerFinal::Signature(signature) = ServerFinal::parse(signature.as_bytes()).unwrap() else {
        panic!("not a signature");
    };
    (
        accepted,
        hash.signature_is_right(&hash.server_key(&salted), &said, &signature),
    )
}

#[test]
fn both_sides_agree_exactly_when_the_passwords_do() {
    for hash in [Hash::Sha256, Hash::Sha512] {
        assert_eq!(exchange(hash, "pässword", "pässword"), (true, true), "{hash:?}");
        assert_eq!(exchange(hash, "password", "passwort"), (false, false), "{hash:?}");
        assert_eq!(exchange(hash, "password", "password "), (false, false), "{hash:?}");
    }
}

#[test]
fn passwords_are_not_prepared() {
    // SASLprep would make both the same (U+00AA is compatible with `a`); Kafka keeps them apart.
    assert_eq!(exchange(Hash::Sha256, "\u{aa}", "a"), (false, false));
}

#[test]
fn a_proof_of_another_length_is_wrong() {
    let credential = Credential::from_password(Hash::Sha512, "password", *b"some salt", 1);
    for length in [0, 32, 63, 65] {
        assert!(!Hash::Sha512.proof_is_right(&credential.stored_key, "said", &vec![0; length]));
    }
}

#[test]
fn names_are_escaped_and_nothing_else_passes_for_an_escape() {
    assert_eq!(ClientFirst::format_bare("=,=2C", "n").unwrap(), "n==3D=2C=3D2C,r=n");
    for name in ["a=b", "a=2c", "=", "=3", "=2", ""] {
        let message = format!("n,,n={name},r=n");
        assert!(ClientFirst::parse(message.as_bytes()).is_err(), "{name}");
    }
}

#[test]
fn the_token_extension_and_an_authorization_id_are_read() {
    let first = ClientFirst::parse(b"n,a=me=2Cyou,n=id,r=nonce,tokenauth=true").unwrap();
    assert!(first.token_auth);
    assert_eq!(first.authorization_id.as_deref(), Some("me,you"));
    assert_eq!(
        (first.gs2_header, first.bare),
        ("n,a=me=2Cyou,", "n=id,r=nonce,tokenauth=true")
    );
    assert!(!ClientFirst::parse(b"n,,n=id,r=nonce,x=tokenauth").unwrap().token_auth);
}

#[test]
fn malformed_messages_are_refused() {
    for message in [
        "",
        "n",
        "n,,",
        "n,,n=user",
        "n,,r=nonce,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=no nce",
        "n,,n=user,r=nonce,",
        "n,,n=user,r=nonce,1=x",
        "n,,m=must,n=user,r=nonce",
        "n,b=x,n=user,r=nonce",
        "y,,n=user,r=nonce",
        "p=tls-unique,,n=user,r=nonce",
        "n,,n=us\0er,r=nonce",
    ] {
        assert!(ClientFirst::parse(message.as_bytes()).is_err(), "{message:?}");
    }
    for message in [
        "",
        "r=n",
        "r=n,s=c2FsdA==",
        "r=n,s=!,i=4096",
        "r=n,s=,i=4096",
        "r=n,s=c2FsdA==,i=0",
        "r=n,s=c2FsdA==,i=-1",
        "r=n,s=c2FsdA==,i=+5",
        "r=n,s=c2FsdA==,i=4294967296",
        "m=x,r=n,s=c2FsdA==,i=4096",
        "e=other-error",
    ] {
        assert!(ServerFirst::parse(message.as_bytes()).is_err(), "{message:?}");
    }
    for message in ["", "c=biws,r=n", "c=biws,p=AAAA", "r=n,c=biws,p=AAAA", "c=biws,r=n,p=A"] {
        assert!(ClientFinal::parse(message.as_bytes()).is_err(), "{message:?}");
    }
    for message in ["", "v=", "v=!", "e=", "x=y"] {
        assert!(ServerFinal::parse(message.as_bytes()).is_err(), "{message:?}");
    }
    let long = vec![b'a'; MAX_MESSAGE_BYTES + 1];
    assert!(ServerFinal::parse(&long).is_err());
}

#[test]
fn a_refusal_carries_its_word() {
    let message = ServerFinal::format_error("invalid-proof");
    assert_eq!(message, "e=invalid-proof");
    assert_eq!(
        ServerFinal::parse(message.as_bytes()),
        Ok(ServerFinal::Error("invalid-proof"))
    );
    assert_eq!(ServerFinal::format_error("a b=c,d"), "e=a-b-c-d");
}

#[test]
fn keys_are_in_no_debug_output() {
    let credential = Credential::from_password(Hash::Sha256, "password", *b"some salt", 4096);
    let printed = format!("{credential:?}");
    assert!(printed.contains("Key(..)"), "{printed}");
    for key in [&credential.stored_key, &credential.server_key] {
        assert!(
            !printed.contains(&STANDARD.encode(key.as_bytes())) && !printed.contains(&format!("{:?}", key.as_bytes()))
        );
    }
}

#[test]
fn mechanisms_have_the_names_of_the_wire() {
    for mechanism in Mechanism::ALL {
        assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
    }
    assert_eq!(Mechanism::from_name("plain"), None);
    assert_eq!(Mechanism::ScramSha512.scram_hash(), Some(Hash::Sha512));
}

proptest! {
    #[test]
    fn every_name_comes_back(name in "[^\\x00]{1,40}", nonce in "[!-+\\--~]{1,60}") {
        let message = format!("n,,{}", ClientFirst::format_bare(&name, &nonce).unwrap());
        let read = ClientFirst::parse(message.as_bytes()).unwrap();
        prop_assert_eq!((&*read.username, read.nonce), (&*name, &*nonce));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ClientFirst::parse(&bytes);
        let _ = ServerFirst::parse(&bytes);
        let _ = ClientFinal::parse(&bytes);
        let _ = ServerFinal::parse(&bytes);
    }

    #[test]
    fn no_text_of_its_own_letters_makes_it_panic(text in "[nrscipvema=,+A-D0-4]{0,80}") {
        let bytes = text.as_bytes();
        let _ = ClientFirst::parse(bytes);
        let _ = ServerFirst::parse(bytes);
        let _ = ClientFinal::parse(bytes);
        let _ = ServerFinal::parse(bytes);
    }
}
