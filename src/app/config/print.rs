//! The configuration as TOML that means the same, with every default written out.
//!
//! Where backends stand at layer 7 without a name, they are printed as the group that they are, by the name that it
//! was given. The keys that have no default are left out where they were not written.

use std::fmt::{self, Write};
use std::path::Path;

use super::Config;
use super::access_log::{FORMATS, STDOUT};
use super::group::{PROTOCOLS, PROXY_PROTOCOLS};
use super::print_route;
use super::site::UPSTREAMS;
use super::timeouts::TIMEOUTS;
use super::values::{written, written_size};
use crate::balance::{BackendSpec, ServiceSpec, Weight};
use crate::l7::spec::{
    CertificateSpec, ClientAuth, GroupSpec, LogSpec, LogTarget, Plan, Reasons, SiteSpec, TlsSpec,
};

/// As TOML. Only names of files need an escape: other names are plain, and all else is made of numbers and words.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seed) = self.seed {
            writeln!(f, "seed = {seed}\n")?;
        }
        let tun = &self.tun;
        writeln!(f, "[tun]\nname      = \"{}\"", tun.name)?;
        writeln!(f, "io        = \"{}\"", tun.io)?;
        writeln!(f, "queues    = {}", tun.queues)?;
        writeln!(f, "local     = [{}]", list(&tun.local))?;
        writeln!(f, "configure = {}", tun.configure)?;
        writeln!(f, "mtu       = {}", tun.mtu)?;
        writeln!(f, "\n[flows]\nmax            = {}", self.flows.max)?;
        writeln!(f, "max_per_client = {}", self.flows.max_per_client)?;
        let ports = &self.flows.local_ports;
        writeln!(f, "local_ports    = \"{}-{}\"", ports.start(), ports.end())?;
        writeln!(f, "\n[timeouts]")?;
        let mut timeouts = self.timeouts;
        for timeout in &TIMEOUTS {
            writeln!(f, "{:15} = \"{}\"", timeout.key, written(*(timeout.field)(&mut timeouts)))?;
        }
        writeln!(f, "\n[health]\nfall  = {}", self.health.fall)?;
        writeln!(f, "retry = \"{}\"", written(self.health.retry))?;
        self.services.iter().try_for_each(|each| service(f, each))?;
        let Plan { sites, groups, upstreams, clients } = &self.plan;
        sites.iter().try_for_each(|each| site(f, each, groups))?;
        groups.iter().try_for_each(|each| group(f, each))?;
        if sites.is_empty() {
            return Ok(());
        }
        if let Some(most) = upstreams {
            writeln!(f, "\n[pool]\nconnections = {most}")?;
        }
        writeln!(f, "\n[clients]\nconnections = {}", clients.connections)?;
        writeln!(f, "per_source  = {}", clients.per_source)
    }
}

fn service(f: &mut fmt::Formatter<'_>, service: &ServiceSpec) -> fmt::Result {
    writeln!(f, "\n[[service]]\nname      = \"{}\"\nmode      = \"l4\"", service.name)?;
    writeln!(f, "listen    = [{}]", list(&service.listen))?;
    writeln!(f, "nat       = \"{}\"", service.nat)?;
    writeln!(f, "scheduler = \"{}\"", service.scheduler)?;
    writeln!(f, "backends  = [")?;
    backends(f, &service.backends)
}

fn site(f: &mut fmt::Formatter<'_>, site: &SiteSpec, groups: &[GroupSpec]) -> fmt::Result {
    writeln!(f, "\n[[service]]\nname      = \"{}\"\nmode      = \"l7\"", site.name)?;
    let listen = site.listen.iter().map(|endpoint| format!("tcp/{endpoint}")).collect::<Vec<_>>();
    writeln!(f, "listen    = [{}]", list(&listen))?;
    writeln!(f, "upstreams = \"{}\"", word(&UPSTREAMS, site.upstreams))?;
    if let Some(spec) = &site.tls {
        tls(f, spec)?;
    }
    if let Some(log) = &site.access_log {
        access_log(f, log)?;
    }
    print_route::limit(f, &site.limits)?;
    if site.reasons == Reasons::Shown {
        writeln!(f, "debug     = true")?;
    }
    let patience = &site.patience;
    writeln!(f, "\n[service.patience]\nhandshake  = \"{}\"", written(patience.handshake))?;
    writeln!(f, "head       = \"{}\"", written(patience.head))?;
    writeln!(f, "body       = \"{}\"", written(patience.body))?;
    writeln!(f, "send       = \"{}\"", written(patience.send))?;
    writeln!(f, "keep_alive = \"{}\"", written(patience.keep_alive))?;
    if let Some(total) = patience.total {
        writeln!(f, "total      = \"{}\"", written(total))?;
    }
    let requests = &site.requests;
    writeln!(f, "\n[service.requests]\nmax_head    = \"{}\"", written_size(requests.head))?;
    writeln!(f, "max_fields  = {}", requests.fields)?;
    if let Some(bytes) = requests.body {
        writeln!(f, "max_body    = \"{}\"", written_size(usize::try_from(bytes).unwrap_or(usize::MAX)))?;
    }
    writeln!(f, "max_streams = {}", requests.streams)?;
    if let Some(cache) = &site.cache {
        writeln!(f, "\n[service.cache]\nmax_bytes            = \"{}\"", written_size(cache.max_bytes))?;
        writeln!(f, "max_body             = \"{}\"", written_size(cache.max_body))?;
        writeln!(f, "stale_if_unreachable = \"{}\"", written(cache.stale_if_unreachable))?;
        writeln!(f, "purge                = [{}]", list(&cache.purge))?;
    }
    site.routes.iter().try_for_each(|route| print_route::route(f, route, groups))
}

fn tls(f: &mut fmt::Formatter<'_>, tls: &TlsSpec) -> fmt::Result {
    if tls.certificates.contains(&CertificateSpec::Auto) {
        writeln!(f, "tls       = \"auto\"")?;
    } else {
        writeln!(f, "tls       = [")?;
        for certificate in &tls.certificates {
            if let CertificateSpec::Files { chain, key } = certificate {
                writeln!(f, "    {{ chain = {}, key = {} }},", file(chain), file(key))?;
            }
        }
        writeln!(f, "]")?;
    }
    let (ca, word) = match &tls.client {
        ClientAuth::None => return Ok(()),
        ClientAuth::Optional(ca) => (ca, "optional"),
        ClientAuth::Required(ca) => (ca, "required"),
    };
    writeln!(f, "client_ca   = {}\nclient_auth = \"{word}\"", file(ca))
}

fn group(f: &mut fmt::Formatter<'_>, group: &GroupSpec) -> fmt::Result {
    // A dot would stand for a table in a table.
    let name = if group.name.contains('.') { format!("\"{}\"", group.name) } else { group.name.clone() };
    writeln!(f, "\n[backends.{name}]\nscheduler      = \"{}\"\nmembers        = [", group.scheduler)?;
    backends(f, &group.members)?;
    writeln!(f, "protocol       = \"{}\"", word(&PROTOCOLS, group.protocol))?;
    if let Some(tls) = &group.tls {
        let server = tls.name.as_ref().map(|name| format!(", name = \"{name}\"")).unwrap_or_default();
        writeln!(f, "tls            = {{ ca = {}{server} }}", file(&tls.ca))?;
    }
    writeln!(f, "proxy_protocol = \"{}\"", word(&PROXY_PROTOCOLS, group.proxy_protocol))?;
    let limits = &group.limits;
    writeln!(f, "\n[backends.{name}.limits]\nconnections   = {}", limits.connections)?;
    if let Some(requests) = limits.requests {
        writeln!(f, "requests      = {requests}")?;
    }
    writeln!(f, "idle          = {}", limits.idle)?;
    writeln!(f, "idle_time     = \"{}\"", written(limits.idle_time))?;
    if let Some(age) = limits.age {
        writeln!(f, "age           = \"{}\"", written(age))?;
    }
    if let Some(uses) = limits.uses {
        writeln!(f, "uses          = {uses}")?;
    }
    writeln!(f, "waiting       = {}", limits.waiting)?;
    writeln!(f, "wait          = \"{}\"", written(limits.wait))?;
    writeln!(f, "connect       = \"{}\"", written(limits.connect))?;
    writeln!(f, "response      = \"{}\"", written(limits.response))?;
    writeln!(f, "body          = \"{}\"", written(limits.body))?;
    if let Some(total) = limits.total {
        writeln!(f, "total         = \"{}\"", written(total))?;
    }
    writeln!(f, "retry_percent = {}", limits.retry_percent)?;
    let statuses: Vec<_> = limits.retry_on.iter().map(|status| status.to_string()).collect();
    writeln!(f, "retry_on      = [{}]", statuses.join(", "))?;
    match limits.hedge {
        Some(hedge) => writeln!(f, "hedge         = \"{}\"", written(hedge)),
        None => Ok(()),
    }
}

fn access_log(f: &mut fmt::Formatter<'_>, log: &LogSpec) -> fmt::Result {
    match &log.target {
        LogTarget::Stdout => writeln!(f, "access_log        = \"{STDOUT}\"")?,
        LogTarget::File(path) => writeln!(f, "access_log        = {}", file(path))?,
    }
    writeln!(f, "access_log_format = \"{}\"", word(&FORMATS, log.format))
}

/// The items of a list and its end.
fn backends(f: &mut fmt::Formatter<'_>, backends: &[BackendSpec]) -> fmt::Result {
    for each in backends {
        writeln!(f, "    {},", backend(each))?;
    }
    writeln!(f, "]")
}

/// As short as it can be said.
fn backend(backend: &BackendSpec) -> String {
    let mut text = format!("\"{}\"", backend.endpoint);
    if backend.weight != Weight::ONE || backend.drain {
        text = format!("{{ address = {text}");
        if backend.weight != Weight::ONE {
            let _ = write!(text, ", weight = {}", backend.weight.value());
        }
        if backend.drain {
            text.push_str(", drain = true");
        }
        text.push_str(" }");
    }
    text
}

/// The name of a file, with whatever is in it.
fn file(path: &Path) -> String {
    text(&path.to_string_lossy())
}

/// A text, with whatever is in it, on one line.
pub fn text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The word for a value, out of those by which it is read.
pub fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map(|(word, _)| *word).unwrap_or_default()
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}
