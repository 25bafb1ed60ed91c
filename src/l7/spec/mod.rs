//! What layer 7 is to do, as configured: sites, their routes, and groups of backends.
//!
//! ```text
//!   SiteSpec ── listen, TLS ──▶ RouteSpec: host, path, … ── Action ──▶ GroupSpec: scheduler, backends, limits
//! ```
//!
//! All of it is plain and checked already: names are unique, ids are in range, durations make sense. Files are named, not
//! read. Whoever makes a [`Plan`] in another way than from a configuration must keep that.

mod cache;
mod limits;
mod log;
mod route;
mod shape;

use std::path::PathBuf;

use crate::balance::{BackendSpec, SchedulerKind};
use crate::packet::Endpoint;

pub use cache::CacheSpec;
pub use limits::{ClientLimits, Patience, RequestLimits, Statuses, UpstreamLimits};
pub use log::{LogFormat, LogSpec, LogTarget};
pub use route::{
    Action, Condition, ForwardSpec, HostPattern, MirrorSpec, PathPattern, PathRewrite, RedirectScheme,
    RedirectSpec, RespondSpec, RouteSpec, Share, StickySpec, ValuePattern,
};
pub use shape::{Coding, CompressSpec, FieldChanges, Rate, RateLimits, RatePeriod};

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The layer-7 virtual services.
    pub sites: Vec<SiteSpec>,
    /// What their routes lead to.
    pub groups: Vec<GroupSpec>,
    /// The bound of upstreams of all backends together.
    pub upstreams: Option<usize>,
    /// Bounds of clients' connections.
    pub clients: ClientLimits,
}

/// A group, by its place in [`Plan::groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId(pub usize);

/// One layer-7 virtual service.
#[derive(Clone, Debug)]
pub struct SiteSpec {
    /// What people call it.
    pub name: String,
    /// Where it takes TCP connections. Families may be mixed.
    pub listen: Vec<Endpoint>,
    /// Where upstreams come from.
    pub upstreams: UpstreamMode,
    /// How TLS is ended; `None` for cleartext.
    pub tls: Option<TlsSpec>,
    /// Where requests go, at least one.
    pub routes: Vec<RouteSpec>,
    /// How long clients are waited for.
    pub patience: Patience,
    /// What is kept of answers; `None` for nothing.
    pub cache: Option<CacheSpec>,
    /// What one request may be.
    pub requests: RequestLimits,
    /// Where requests are logged; `None` for nowhere.
    pub access_log: Option<LogSpec>,
    /// How many requests are taken, before it is known what for.
    pub limits: RateLimits,
    /// Whether answers that are the balancer's own say why in a field of their own.
    pub reasons: Reasons,
}

impl SiteSpec {
    /// One in the clear, without routes, and otherwise as it is where nothing is said.
    pub fn plain(name: &str, listen: Vec<Endpoint>) -> Self {
        Self {
            name: name.to_owned(),
            listen,
            upstreams: UpstreamMode::default(),
            tls: None,
            routes: Vec::new(),
            patience: Patience::default(),
            cache: None,
            requests: RequestLimits::default(),
            access_log: None,
            limits: RateLimits::default(),
            reasons: Reasons::default(),
        }
    }
}

/// Whether answers that are the balancer's own say why in a field of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reasons {
    /// They do not.
    #[default]
    Hidden,
    /// They do.
    Shown,
}

/// Where upstreams come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamMode {
    /// They are kept and used again.
    #[default]
    Pool,
    /// Each request opens one, which is closed behind the answer.
    New,
}

/// How TLS is ended.
#[derive(Clone, Debug)]
pub struct TlsSpec {
    /// The certificates, at least one. The first one is for clients whose SNI none fits, or that send none.
    pub certificates: Vec<CertificateSpec>,
    /// Whether clients must show a certificate.
    pub client: ClientAuth,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSpec {
    /// PEM files: the chain, the leaf first, and its key.
    Files {
        /// The chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Made at the start, signed by nobody, for the VIPs and for the hosts of the routes.
    Auto,
}

/// Whether clients must show a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked; one that is shown must be signed by these.
    Optional(PathBuf),
    /// They must show one that is signed by these.
    Required(PathBuf),
}

/// Backends that do the same, and how they are reached.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// What people call it.
    pub name: String,
    /// How a backend is picked.
    pub scheduler: SchedulerKind,
    /// The backends, at least one. Families may be mixed, and need not be the client's.
    pub members: Vec<BackendSpec>,
    /// What is spoken to them.
    pub protocol: UpstreamProtocol,
    /// How TLS is spoken to them; `None` for cleartext.
    pub tls: Option<BackendTls>,
    /// Whether they are told about the client before the first byte.
    pub proxy_protocol: ProxyProtocol,
    /// Bounds of their upstreams.
    pub limits: UpstreamLimits,
}

/// What is spoken to backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; without TLS, with prior knowledge.
    Http2,
}

/// How TLS is spoken to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// PEM file with who may sign their certificates.
    pub ca: PathBuf,
    /// The name that is asked for by SNI and must be in the certificate; `None` for the backend's address.
    pub name: Option<String>,
}

/// Whether backends are told about the client before the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// No.
    #[default]
    None,
    /// By a PROXY protocol header, version 2. Such an upstream serves one client only.
    V2,
}
