//! Certificates and authorities, from the files that a configuration names, and again when those change.
//!
//! ```text
//!   TlsSpec ── files, or made here ──▶ Terminator ◀── swap ── watch: a look a second at when files were changed
//! ```
//!
//! The files are looked at, not subscribed to: that finds a change whatever way it is made (written in place, renamed over,
//! a link that is turned, another machine's file system), and costs a few system calls a second. A change is taken once it
//! has been still for one look, so that no half of a pair is read. What cannot be used is told once, and the last good one stays.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rustls::KeyLog;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use crate::app::config::{self, Unusable};
use crate::app::output;
use crate::io::Stop;
use crate::l7::spec::{BackendTls, CertificateSpec, ClientAuth, HostPattern, SiteSpec, UpstreamProtocol};
use crate::l7::tls::{
    Authorities, BackendClient, BackendSetup, Certificates, ClientCheck, Material, MaterialError, Pem, Setup,
    SetupError, Terminator, authority,
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often the end of the run is looked for meanwhile.
const STEP: Duration = Duration::from_millis(100);

/// Ends TLS for a site as configured; `None` for one that speaks in the clear.
///
/// # Errors
/// If a file cannot be read, or what is in it cannot be used.
pub fn terminator(site: &SiteSpec, key_log: Option<Arc<dyn KeyLog>>) -> anyhow::Result<Option<Terminator>> {
    let Some(tls) = &site.tls else { return Ok(None) };
    let time: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
    let materials: Vec<_> = tls
        .certificates
        .iter()
        .map(|spec| material(site, spec, time.as_ref()))
        .collect::<anyhow::Result<_>>()?;
    if let Some(now) = time.current_time() {
        for warning in materials.iter().flat_map(|one| one.warnings(now)) {
            output::say(format_args!("warning: site {}: {warning}", site.name));
        }
    }
    let client = match &tls.client {
        ClientAuth::None => ClientCheck::None,
        ClientAuth::Optional(ca) => ClientCheck::Optional(authorities(ca)?),
        ClientAuth::Required(ca) => ClientCheck::Required(authorities(ca)?),
    };
    let certificates = Arc::new(Certificates::new(materials)?);
    let terminator = Terminator::new(Setup { certificates, client, key_log, time });
    terminator.map(Some).with_context(|| format!("site {}", site.name))
}

/// Speaks TLS to backends as configured.
///
/// # Errors
/// If the authorities cannot be read, or the name is none.
pub fn backend_client(
    tls: &BackendTls,
    protocol: UpstreamProtocol,
    key_log: Option<Arc<dyn KeyLog>>,
) -> anyhow::Result<BackendClient> {
    Ok(BackendClient::new(BackendSetup {
        authorities: authorities(&tls.ca)?,
        name: tls.name.as_deref(),
        protocol,
        key_log,
        time: Arc::new(DefaultTimeProvider),
    })?)
}

fn authorities(file: &Path) -> anyhow::Result<Authorities> {
    let bytes = read(file)?;
    Ok(Authorities::from_pem(Pem { name: &file.display().to_string(), bytes: &bytes })?)
}

fn material(site: &SiteSpec, spec: &CertificateSpec, time: &dyn TimeProvider) -> anyhow::Result<Material> {
    match spec {
        CertificateSpec::Files { chain, key } => Ok(from_files(chain, key)?),
        CertificateSpec::Auto => made_here(site, time),
    }
}

/// Makes a certificate for all that clients may call a site: the hosts of its routes, and its VIPs.
fn made_here(site: &SiteSpec, time: &dyn TimeProvider) -> anyhow::Result<Material> {
    let hosts: Vec<String> = site
        .routes
        .iter()
        .filter_map(|route| match &route.host {
            HostPattern::Exact(host) if !host.starts_with('[') && host.parse::<IpAddr>().is_err() => {
                Some(host.clone())
            }
            HostPattern::Below(host) => Some(format!("*.{host}")),
            HostPattern::Exact(_) | HostPattern::Any => None,
        })
        .collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let addresses: Vec<IpAddr> = site.listen.iter().map(|listen| listen.address.into()).collect();
    let now = time.current_time().context("the system does not say what time it is")?;
    let issued = authority::auto(authority::Subject { hosts: &hosts, addresses: &addresses }, now)?;
    let names = hosts.iter().map(ToString::to_string).chain(addresses.iter().map(ToString::to_string));
    let names: Vec<_> = names.collect();
    output::say(format_args!(
        "site {}: made a certificate for {}, which no client trusts unless it is told to (curl -k)",
        site.name,
        names.join(", "),
    ));
    Ok(issued.material("the certificate that was made here")?)
}

/// Why a certificate's files cannot be used.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{}: {why}", file.display())]
    Unusable { file: PathBuf, why: Unusable },
    #[error(transparent)]
    Material(#[from] MaterialError),
    #[error(transparent)]
    Setup(#[from] SetupError),
}

fn read(file: &Path) -> Result<Vec<u8>, FileError> {
    config::pem_bytes(file).map_err(|why| FileError::Unusable { file: file.to_owned(), why })
}

fn from_files(chain: &Path, key: &Path) -> Result<Material, FileError> {
    let (chain_bytes, key_bytes) = (read(chain)?, read(key)?);
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    Ok(Material::from_pem(Pem { name: &chain, bytes: &chain_bytes }, Pem { name: &key, bytes: &key_bytes })?)
}

/// The certificates of one site that come from files.
struct Watched {
    site: String,
    certificates: Arc<Certificates>,
    /// Where each one comes from; a certificate that was made here stays.
    sources: Vec<CertificateSpec>,
    /// What is shown, and what was seen last.
    shown: Vec<Stamp>,
    seen: Vec<Stamp>,
}

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Swaps certificates when their files change, on a thread of its own, until the run ends.
///
/// # Errors
/// If there is no thread for it.
pub fn watch<'a>(
    sites: impl Iterator<Item = (&'a SiteSpec, &'a Terminator)>,
    stop: &Stop,
) -> std::io::Result<()> {
    let mut watched: Vec<Watched> =
        sites.filter_map(|(site, terminator)| Watched::new(site, terminator)).collect();
    if watched.is_empty() {
        return Ok(());
    }
    let stop = stop.clone();
    let look = move || {
        let mut waited = Duration::ZERO;
        while !stop.is_triggered() {
            thread::sleep(STEP);
            waited += STEP;
            if waited >= LOOK {
                waited = Duration::ZERO;
                watched.iter_mut().for_each(Watched::look);
            }
        }
    };
    thread::Builder::new().name("certificates".to_owned()).spawn(look).map(drop)
}

impl Watched {
    fn new(site: &SiteSpec, terminator: &Terminator) -> Option<Self> {
        let sources = site.tls.as_ref()?.certificates.clone();
        let shown = stamps(&sources);
        (!shown.is_empty()).then(|| Self {
            site: site.name.clone(),
            certificates: Arc::clone(terminator.certificates()),
            sources,
            seen: shown.clone(),
            shown,
        })
    }

    fn look(&mut self) {
        let now = stamps(&self.sources);
        let still = now == self.seen;
        self.seen = now;
        if !still || self.seen == self.shown {
            return;
        }
        self.shown.clone_from(&self.seen);
        let site = &self.site;
        match self.swap() {
            Ok(()) => output::say(format_args!("site {site}: certificates swapped")),
            Err(why) => {
                output::say(format_args!("warning: site {site}: the certificates stay as they were: {why}"));
            }
        }
    }

    fn swap(&self) -> Result<(), FileError> {
        let current = self.certificates.materials();
        let materials = self.sources.iter().zip(current).map(|(source, current)| match source {
            CertificateSpec::Files { chain, key } => from_files(chain, key),
            CertificateSpec::Auto => Ok(current),
        });
        self.certificates.swap(materials)
    }
}

fn stamps(sources: &[CertificateSpec]) -> Vec<Stamp> {
    let files = sources.iter().flat_map(|source| match source {
        CertificateSpec::Files { chain, key } => vec![chain, key],
        CertificateSpec::Auto => Vec::new(),
    });
    files.map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
