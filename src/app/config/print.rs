//! The configuration as TOML that means the same, with every default written out.

use std::fmt::{self, Write};

use super::Config;
use super::timeouts::TIMEOUTS;
use super::values::written;
use crate::balance::{BackendSpec, ServiceSpec, Weight};

/// As TOML. No value needs an escape: names are plain, and all else is made of numbers and words.
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
        self.services.iter().try_for_each(|each| service(f, each))
    }
}

fn service(f: &mut fmt::Formatter<'_>, service: &ServiceSpec) -> fmt::Result {
    writeln!(f, "\n[[service]]\nname      = \"{}\"\nmode      = \"l4\"", service.name)?;
    writeln!(f, "listen    = [{}]", list(&service.listen))?;
    writeln!(f, "nat       = \"{}\"", service.nat)?;
    writeln!(f, "scheduler = \"{}\"", service.scheduler)?;
    writeln!(f, "backends  = [")?;
    for backend in &service.backends {
        writeln!(f, "    {},", self::backend(backend))?;
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

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}
