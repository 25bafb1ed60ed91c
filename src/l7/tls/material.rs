//! A certificate chain and its key, checked: what a server shows to its clients.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::certificate::Facts;
use super::pem::{MaterialError, Pem};
use super::provider;

/// A chain and its key, known to belong together. A handle; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Material(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certified: Arc<CertifiedKey>,
    leaf: Facts,
    /// The place, from 1, of the first certificate that is not signed by the one behind it.
    gap: Option<usize>,
    source: String,
}

impl Material {
    /// Reads a chain, the leaf first, and its key. RSA, ECDSA and Ed25519; PKCS#8, PKCS#1 and SEC1. The two may be one file.
    ///
    /// # Errors
    /// What is wrong with which of the files.
    pub fn from_pem(chain: Pem<'_>, key: Pem<'_>) -> Result<Self, MaterialError> {
        let certificates = chain.certificates()?;
        let bad = |place, why| MaterialError::BadCertificate { file: chain.name.to_owned(), place, why };
        let read =
            |(index, der): (usize, &CertificateDer<'_>)| Facts::read(der).map_err(|why| bad(index + 1, why));
        let facts = certificates.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;

        let signing = provider().key_provider.load_private_key(key.key()?).map_err(|why| {
            let why = match why {
                Error::General(why) => why,
                other => other.to_string(),
            };
            MaterialError::BadKey { file: key.name.to_owned(), why }
        })?;
        let fits = |certificate: &CertificateDer<'static>| {
            CertifiedKey::new(vec![certificate.clone()], Arc::clone(&signing)).keys_match()
        };
        let certified = CertifiedKey::new(certificates, Arc::clone(&signing));
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                let place = certified.cert.iter().position(|other| fits(other).is_ok());
                return Err(MaterialError::KeyDoesNotFit {
                    chain: chain.name.to_owned(),
                    key: key.name.to_owned(),
                    place: place.map(|index| index + 1),
                });
            }
            Err(why) => return Err(bad(1, why.to_string())),
        }
        let pairs = facts.iter().zip(facts.iter().skip(1));
        let gap = pairs
            .clone()
            .position(|(below, above)| below.issuer_raw != above.subject_raw)
            .map(|index| index + 1);
        let Some(leaf) = facts.into_iter().next() else {
            return Err(MaterialError::NoCertificate { file: chain.name.to_owned(), holds: None });
        };
        let (certified, source) = (Arc::new(certified), chain.name.to_owned());
        Ok(Self(Arc::new(Inner { certified, leaf, gap, source })))
    }

    /// The DNS names and addresses that the leaf is for, in lower case; wildcards as `*.example.com`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.leaf.names.iter().map(AsRef::as_ref)
    }

    /// What is odd about it and no reason to refuse it, at this moment.
    pub fn warnings(&self, now: UnixTime) -> Vec<Warning> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (leaf, file) = (&self.0.leaf, || self.0.source.clone());
        let mut found = Vec::new();
        if now > leaf.not_after {
            found.push(Warning::Expired { file: file(), seconds: now.abs_diff(leaf.not_after) });
        }
        if now < leaf.not_before {
            found.push(Warning::NotYetValid { file: file(), seconds: now.abs_diff(leaf.not_before) });
        }
        if leaf.names.is_empty() {
            found.push(Warning::NoNames { file: file() });
        }
        if let Some(place) = self.0.gap {
            found.push(Warning::ChainBroken { file: file(), place });
        }
        found
    }

    /// Until when the leaf is valid, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.0.leaf.not_after
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.0.certified
    }
}

/// What is odd about a certificate and no reason to refuse it. Clients may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Its time is over.
    Expired {
        /// The file with the chain.
        file: String,
        /// Since when.
        seconds: u64,
    },
    /// Its time has not come.
    NotYetValid {
        /// The file with the chain.
        file: String,
        /// For how long yet.
        seconds: u64,
    },
    /// It is for no host and no address.
    NoNames {
        /// The file with the chain.
        file: String,
    },
    /// A certificate of the chain is not signed by the next one.
    ChainBroken {
        /// The file with the chain.
        file: String,
        /// Which, from 1.
        place: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { file, seconds } => write!(f, "{file}: expired {} ago", span(*seconds)),
            Self::NotYetValid { file, seconds } => {
                write!(f, "{file}: not valid for another {}", span(*seconds))
            }
            Self::NoNames { file } => {
                write!(f, "{file}: for no host and no address, so that no client will take it")
            }
            Self::ChainBroken { file, place } => {
                write!(f, "{file}: certificate {place} is not signed by the one behind it")
            }
        }
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
