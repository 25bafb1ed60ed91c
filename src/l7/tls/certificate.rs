//! What a certificate says of itself: whom it is for, when, and by whom it was signed.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::one_line;

/// The parts of a certificate that are shown or looked up.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The DNS names and addresses that it is for, in lower case; wildcards as `*.example.com`.
    pub names: Vec<Box<str>>,
    /// From when, in seconds since 1970.
    pub not_before: i64,
    /// Until when, in seconds since 1970.
    pub not_after: i64,
    /// Who it is about, as `CN=…, O=…`.
    pub subject: Box<str>,
    /// The subject as bytes, to compare.
    pub subject_raw: Vec<u8>,
    /// Who signed it, as bytes, to compare.
    pub issuer_raw: Vec<u8>,
}

impl Facts {
    /// Reads them. The text is what is wrong.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|why| match why {
            x509_parser::nom::Err::Error(why) | x509_parser::nom::Err::Failure(why) => why.to_string(),
            x509_parser::nom::Err::Incomplete(_) => "it is cut off".to_owned(),
        })?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow it", rest.len()));
        }
        Ok(Self {
            names: names(&certificate),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            subject: one_line(&certificate.subject().to_string()),
            subject_raw: certificate.subject().as_raw().to_vec(),
            issuer_raw: certificate.issuer().as_raw().to_vec(),
        })
    }
}

/// The subject's alternative names. The common name counts only where there are none (RFC 6125 §6.4.4).
fn names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        return common
            .filter(|name| looks_like_a_host(name))
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn name(name: &GeneralName<'_>) -> Option<Box<str>> {
    match name {
        GeneralName::DNSName(name) => looks_like_a_host(name).then(|| name.to_ascii_lowercase().into()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            let six = || <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string());
            four.or_else(|_| six()).ok().map(Into::into)
        }
        _ => None,
    }
}

fn looks_like_a_host(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*');
    !name.is_empty() && name.chars().all(fine)
}
