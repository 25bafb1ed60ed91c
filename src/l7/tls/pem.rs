//! PEM files, by their bytes: what is in them, and what is wrong with them.

use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A PEM file that was read: its bytes, and what messages call it.
#[derive(Clone, Copy, Debug)]
pub struct Pem<'a> {
    /// What the user knows it by, as a rule its path.
    pub name: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// What is wrong with a certificate, a key or an authority, and in which file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// There is nothing in it.
    #[error("{file}: the file is empty")]
    Empty {
        /// The file.
        file: String,
    },
    /// It is binary.
    #[error(
        "{file}: not PEM, but what looks like DER (`openssl x509 -inform der` or `openssl pkey -inform der` makes PEM of it)"
    )]
    Der {
        /// The file.
        file: String,
    },
    /// There is no `-----BEGIN` in it.
    #[error("{file}: not a PEM file")]
    NotPem {
        /// The file.
        file: String,
    },
    /// A section of it is cut off, or is not base64.
    #[error("{file}: broken PEM: {why}")]
    Broken {
        /// The file.
        file: String,
        /// What the reader says.
        why: String,
    },
    /// It holds other things only.
    #[error("{file}: no certificate in it{}", but(*.holds))]
    NoCertificate {
        /// The file.
        file: String,
        /// What it holds instead.
        holds: Option<&'static str>,
    },
    /// It holds other things only.
    #[error("{file}: no private key in it{}", but(*.holds))]
    NoKey {
        /// The file.
        file: String,
        /// What it holds instead.
        holds: Option<&'static str>,
    },
    /// The key is locked by a passphrase, which nobody is there to type.
    #[error(
        "{file}: the private key is encrypted (`openssl pkey -in KEY -out PLAIN` takes the passphrase off)"
    )]
    EncryptedKey {
        /// The file.
        file: String,
    },
    /// One of the certificates cannot be read.
    #[error("{file}: certificate {place} of the file cannot be read: {why}")]
    BadCertificate {
        /// The file.
        file: String,
        /// Which one, from 1.
        place: usize,
        /// What the reader says.
        why: String,
    },
    /// The key is of a kind that is not known, or is damaged.
    #[error(
        "{file}: the private key cannot be used: {why} (RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 can)"
    )]
    BadKey {
        /// The file.
        file: String,
        /// What the reader says.
        why: String,
    },
    /// The key is another certificate's.
    #[error("{key}: the private key is not the one of the first certificate in {chain}{}", order(*.place))]
    KeyDoesNotFit {
        /// The file with the chain.
        chain: String,
        /// The file with the key.
        key: String,
        /// The certificate that it does fit, from 1, where the chain holds it.
        place: Option<usize>,
    },
}

fn but(holds: Option<&'static str>) -> String {
    holds.map_or_else(String::new, |what| format!(", but {what}"))
}

fn order(place: Option<usize>) -> String {
    place.map_or_else(String::new, |place| format!(", but of the one at {place}: the leaf must come first"))
}

impl Pem<'_> {
    /// The certificates in it, at least one, in their order.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
        self.sections()?;
        let found: Vec<_> = CertificateDer::pem_slice_iter(self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|why| self.broken(&why))?;
        if found.is_empty() {
            let holds = (self.has("PRIVATE KEY-----")).then_some("a private key");
            return Err(MaterialError::NoCertificate { file: self.name.to_owned(), holds });
        }
        Ok(found)
    }

    /// The first private key in it.
    pub(super) fn key(self) -> Result<PrivateKeyDer<'static>, MaterialError> {
        if self.has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || self.has("Proc-Type: 4,ENCRYPTED") {
            return Err(MaterialError::EncryptedKey { file: self.name.to_owned() });
        }
        self.sections()?;
        match PrivateKeyDer::from_pem_slice(self.bytes) {
            Ok(key) => Ok(key),
            Err(PemError::NoItemsFound) => {
                let holds = self.has("-----BEGIN CERTIFICATE-----").then_some("a certificate");
                Err(MaterialError::NoKey { file: self.name.to_owned(), holds })
            }
            Err(why) => Err(self.broken(&why)),
        }
    }

    /// Holds that this is PEM, and whole.
    fn sections(self) -> Result<(), MaterialError> {
        let file = || self.name.to_owned();
        if self.bytes.trim_ascii().is_empty() {
            return Err(MaterialError::Empty { file: file() });
        }
        if !self.has("-----BEGIN ") {
            // A certificate or a key in DER is a SEQUENCE (X.690 §8.9) whose length takes more than a byte, or nearly.
            let der = self.bytes.first() == Some(&0x30) && std::str::from_utf8(self.bytes).is_err();
            return Err(if der {
                MaterialError::Der { file: file() }
            } else {
                MaterialError::NotPem { file: file() }
            });
        }
        let whole: Result<Vec<(SectionKind, Vec<u8>)>, _> = PemObject::pem_slice_iter(self.bytes).collect();
        whole.map(drop).map_err(|why| self.broken(&why))
    }

    fn has(self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn broken(self, why: &PemError) -> MaterialError {
        let why = match why {
            PemError::MissingSectionEnd { end_marker } => {
                format!(
                    "`-----END {}-----` is missing",
                    super::one_line(&String::from_utf8_lossy(end_marker))
                )
            }
            PemError::IllegalSectionStart { line } => {
                format!("`{}` starts no section", super::one_line(String::from_utf8_lossy(line).trim_end()))
            }
            PemError::Base64Decode(_) => "what stands between BEGIN and END is not base64".to_owned(),
            other => other.to_string(),
        };
        MaterialError::Broken { file: self.name.to_owned(), why }
    }
}
