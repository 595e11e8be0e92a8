//! PEM: certificates and private keys as text.
//!
//! In: the text of a file, or of a configuration key, where line breaks may have become blanks. Out: certificates, or one
//! private key. Text between the blocks (names, comments) is passed over, as OpenSSL and Java do.
//!
//! Nothing of a private key appears in an error.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// One block: its label and what it encloses, without white space.
struct Block<'a> {
    label: &'a str,
    body: String,
}

/// The blocks of `text`, in order.
fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, after)) = after.split_once("-----") else {
            return Err("has a BEGIN without its dashes".to_owned());
        };
        let end = format!("-----END {label}-----");
        let Some((body, after)) = after.split_once(&end) else {
            return Err(format!("has a BEGIN {label} without its END {label}"));
        };
        blocks.push(Block {
            label,
            body: body.split_whitespace().collect(),
        });
        rest = after;
    }
    Ok(blocks)
}

impl Block<'_> {
    /// The block as one that any reader takes.
    fn text(&self) -> String {
        let label = self.label;
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", self.body)
    }
}

/// All certificates of `text`; at least one.
///
/// # Errors
/// The rest of a sentence that begins with where the text comes from.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let blocks = blocks(text)?;
    let wanted = blocks
        .iter()
        .filter(|block| matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"));
    let decode = |block: &Block<'_>| {
        let plain = Block {
            label: "CERTIFICATE",
            body: block.body.clone(),
        };
        CertificateDer::from_pem_slice(plain.text().as_bytes())
            .map_err(|_| "has a certificate that is not base64".to_owned())
    };
    let found: Vec<_> = wanted.map(decode).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(not_pem(text, "certificate (BEGIN CERTIFICATE)"));
    }
    Ok(found)
}

/// The private key of `text`.
///
/// # Errors
/// The rest of a sentence that begins with where the text comes from: there is none, or several, or it is encrypted.
pub fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    let blocks = blocks(text)?;
    let is_encrypted =
        |block: &&Block<'_>| block.label.starts_with("ENCRYPTED ") || block.body.starts_with("Proc-Type:");
    let keys: Vec<_> = blocks
        .iter()
        .filter(|block| block.label.ends_with("PRIVATE KEY"))
        .collect();
    if keys.iter().any(is_encrypted) {
        return Err(
            "has an encrypted private key; \"openssl pkey -in FILE -out plain.pem\" writes it plain".to_owned(),
        );
    }
    match keys.as_slice() {
        [] => Err(not_pem(text, "private key (BEGIN PRIVATE KEY)")),
        [key] => PrivateKeyDer::from_pem_slice(key.text().as_bytes())
            .map_err(|_| format!("has a {} that cannot be read; PKCS#8, PKCS#1 and SEC1 can", key.label)),
        several => Err(format!("has {} private keys; one is enough", several.len())),
    }
}

fn not_pem(text: &str, wanted: &str) -> String {
    if text.contains("-----BEGIN ") {
        format!("has no {wanted}")
    } else {
        format!("is not PEM: it has no {wanted}; a JKS or PKCS12 store must be converted first")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn line_breaks_may_be_blanks_and_text_may_stand_between_blocks() {
        let (certificate, key) = made();
        let whole = format!("subject: CN=x\n{certificate}\nBag Attributes\n{key}{certificate}");
        for text in [whole.clone(), whole.replace('\n', " "), whole.replace('\n', "\r\n")] {
            assert_eq!(certificates(&text).unwrap().len(), 2);
            assert_eq!(
                certificates(&text).unwrap(),
                certificates(&certificate.repeat(2)).unwrap()
            );
            private_key(&text).unwrap();
        }
    }

    #[test]
    fn what_is_no_certificate_or_key_is_refused_with_the_reason() {
        let (certificate, key) = made();
        assert!(certificates("\u{fffd}\u{fffd}").unwrap_err().contains("is not PEM"));
        assert!(certificates(&key).unwrap_err().contains("has no certificate"));
        assert!(private_key(&certificate).unwrap_err().contains("has no private key"));
        assert!(private_key(&key.repeat(2)).unwrap_err().contains("2 private keys"));
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert!(private_key(&encrypted).unwrap_err().contains("openssl pkey"));
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        assert!(private_key(old).unwrap_err().contains("openssl pkey"));
        assert!(
            certificates("-----BEGIN CERTIFICATE-----\nAAAA")
                .unwrap_err()
                .contains("without its END")
        );
        let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----";
        assert!(certificates(broken).unwrap_err().contains("not base64"));
    }
}
