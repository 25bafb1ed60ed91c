//! Certificates that are made here: `auto` ones for a site that brought none, and a small authority for tests and the lab.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::UnixTime;

use super::material::Material;
use super::pem::{MaterialError, Pem};

/// A chain and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The chain: one certificate.
    pub chain: String,
    /// Its key, in PKCS#8.
    pub key: String,
}

impl Issued {
    /// What a server shows; `name` is what messages call it.
    ///
    /// # Errors
    /// Cannot be, as long as the text is as it was issued.
    pub fn material(&self, name: &str) -> Result<Material, MaterialError> {
        let [chain, key] = [&self.chain, &self.key].map(|text| Pem { name, bytes: text.as_bytes() });
        Material::from_pem(chain, key)
    }
}

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A host that no certificate can name.
    #[error("no certificate can be made for `{host}`")]
    Host {
        /// The host.
        host: String,
    },
    /// There is nothing to make it for.
    #[error("no certificate can be made for no host and no address")]
    Nobody,
    /// The library says no.
    #[error("the certificate cannot be made: {0}")]
    Library(#[from] rcgen::Error),
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Hosts; wildcards as `*.example.com`.
    pub hosts: &'a [&'a str],
    /// Addresses.
    pub addresses: &'a [IpAddr],
}

/// Makes a certificate that nobody signed: ECDSA on P-256, valid from yesterday for a year.
///
/// No client trusts it unless it is told to, by this very certificate.
///
/// # Errors
/// If a host is no name, or there is neither host nor address.
pub fn auto(subject: Subject<'_>, now: UnixTime) -> Result<Issued, IssueError> {
    let key = KeyPair::generate()?;
    let certificate = leaf(subject, now)?.self_signed(&key)?;
    Ok(Issued { chain: certificate.pem(), key: key.serialize_pem() })
}

/// Signs certificates, for tests and the lab.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    now: UnixTime,
}

impl Authority {
    /// Makes one. `now` is for all that it signs.
    ///
    /// # Errors
    /// If the library cannot make a key.
    pub fn new(name: &str, now: UnixTime) -> Result<Self, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        date(&mut params, now);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?, now })
    }

    /// Its own certificate, as PEM, for others to trust.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a server's certificate.
    ///
    /// # Errors
    /// If a host is no name, or there is neither host nor address.
    pub fn server(&self, subject: Subject<'_>) -> Result<Issued, IssueError> {
        self.sign(&leaf(subject, self.now)?)
    }

    /// Signs a client's certificate.
    ///
    /// # Errors
    /// If the library cannot make a key.
    pub fn client(&self, name: &str) -> Result<Issued, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        date(&mut params, self.now);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { chain: certificate.pem(), key: key.serialize_pem() })
    }
}

fn leaf(subject: Subject<'_>, now: UnixTime) -> Result<CertificateParams, IssueError> {
    let hosts = subject.hosts.iter().map(|host| {
        let name = (*host).try_into().map_err(|_| IssueError::Host { host: (*host).to_owned() })?;
        Ok(SanType::DnsName(name))
    });
    let addresses = subject.addresses.iter().map(|address| Ok(SanType::IpAddress(*address)));
    let names = hosts.chain(addresses).collect::<Result<Vec<_>, IssueError>>()?;
    let first = subject.hosts.first().map(ToString::to_string);
    let first =
        first.or_else(|| subject.addresses.first().map(ToString::to_string)).ok_or(IssueError::Nobody)?;
    let mut params = CertificateParams::default();
    // A common name has at most 64 characters (RFC 5280, appendix A.1: ub-common-name).
    params.distinguished_name.push(DnType::CommonName, first.chars().take(64).collect::<String>());
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    date(&mut params, now);
    Ok(params)
}

const DAY: Duration = Duration::from_secs(86_400);

/// From yesterday, so that a client whose clock is behind takes it, for a year: browsers take no more than 398 days.
fn date(params: &mut CertificateParams, now: UnixTime) {
    /// A certificate can name no year past 9999; long before, this program is of no concern.
    const LAST: u64 = 200_000_000_000;
    let yesterday = Duration::from_secs(now.as_secs().min(LAST)).saturating_sub(DAY);
    params.not_before = date_time_ymd(1970, 1, 1) + yesterday;
    params.not_after = params.not_before + DAY * 365;
}
