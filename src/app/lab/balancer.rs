//! The balancer of the lab in namespaces: one configuration for both layers, and the certificates that it takes.
//!
//! ```text
//!   VIP :80, :7   layer 4 ──▶ all backends           in the clear
//!   VIP :8443     layer 4 ──▶ all backends, which end TLS with certificates of their own
//!   VIP :443      layer 7, TLS ends here ──▶ by host and path to groups; pooled upstreams
//!   VIP :444      the same with a new upstream for each request
//! ```
//!
//! There are two authorities, so that a client can tell by who signed a certificate where its TLS ends. Nothing is written
//! to a disk: keys are gone with the lab.

use std::fmt::Write;

use anyhow::{Context, bail};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::options::Options;
use crate::app::config::Flags;
use crate::l7::tls::authority::{Authority, Issued, Subject};
use crate::lab::namespaces::Plan;
use crate::lab::order::TextFile;
use crate::lab::serve::Certificate;
use crate::lab::topology::{self, Topology};
use crate::packet::Family;

/// The configuration's file, and those of the certificate that it names.
const CONFIG: &str = "lab.toml";
const CHAIN: &str = "site.pem";
const KEY: &str = "site.key";

/// What namespaces are built from.
///
/// # Errors
///
/// The time is not known, or no certificate can be made.
pub fn plan(options: &Options, topology: Topology) -> anyhow::Result<Plan> {
    let now = DefaultTimeProvider.current_time().context("the time is not known")?;
    let ours = Authority::new(topology::AUTHORITY_OF_BALANCER, now)?;
    let theirs = Authority::new(topology::AUTHORITY_OF_BACKENDS, now)?;
    let shops = [topology::SHOP, topology::IMAGES];
    let vips = [Family::V4, Family::V6].map(|family| topology.vip(family));
    let site = ours.server(Subject { hosts: &shops, addresses: &vips })?;
    let certificates = topology
        .backends()
        .map(|number| {
            let own = format!("{}.example.com", Topology::backend_name(number));
            let hosts = [own.as_str(), topology::SHOP, topology::IMAGES];
            let Issued { chain, key } = theirs.server(Subject { hosts: &hosts, addresses: &[] })?;
            Ok(Certificate::Text { chain, key })
        })
        .collect::<anyhow::Result<_>>()?;
    let file = |name: &str, text| TextFile { name: name.to_owned(), text };
    let config = configuration(options, topology);
    Ok(Plan {
        topology,
        balancer: arguments(options, topology)?,
        files: vec![file(CHAIN, site.chain), file(KEY, site.key), file(CONFIG, config)],
        certificates,
        authorities: ours.pem() + &theirs.pem(),
        backend_command: options.backend_cmd.clone(),
    })
}

/// The arguments that make the program the balancer.
fn arguments(options: &Options, topology: Topology) -> anyhow::Result<Vec<String>> {
    let mut arguments = ["run", "--json", "-c", &format!("{{{CONFIG}}}")].map(str::to_owned).to_vec();
    let Some(file) = &options.write else { return Ok(arguments) };
    if file.as_os_str() == "-" {
        bail!("the story goes to standard output; give -w a file");
    }
    let file = std::path::absolute(file).context("-w needs a file")?;
    let file = file.to_str().context("the name of the file is not UTF-8")?;
    arguments.extend(["-w".to_owned(), file.to_owned()]);
    if options.secrets {
        arguments.push("--secrets".to_owned());
    }
    for family in [Family::V4, Family::V6] {
        let backends = topology
            .backends()
            .map(|number| (topology.backend(family, number), Topology::backend_name(number)));
        let others =
            [(topology.client(family), "client".to_owned()), (topology.vip(family), "vip".to_owned())];
        for (address, name) in others.into_iter().chain(backends) {
            arguments.extend(["--name".to_owned(), format!("{address}={name}")]);
        }
    }
    Ok(arguments)
}

/// The configuration, with the names of files in braces.
fn configuration(options: &Options, topology: Topology) -> String {
    let Flags { vip, backend, local, .. } = options.flags(topology);
    let Options { nat, scheduler, io, queues, .. } = options;
    let at = |port| list([Family::V4, Family::V6].map(|family| tcp(topology, family, port)));
    let members = |of: &mut dyn Iterator<Item = u8>, port| {
        list(of.map(|number| format!("{}:{port}", topology.backend(Family::V4, number))))
    };
    let clear = topology::BACKEND;
    let through = members(&mut topology.backends(), topology::BACKEND_TLS);
    let through_at = list([tcp(topology, Family::V4, topology::HTTPS_THROUGH)]);
    let mut text = format!(
        "\
[tun]
name   = \"{tun}\"
io     = \"{io}\"
queues = {queues}
local  = {local}

# Layer 4: each packet is rewritten and passed on.
[[service]]
name      = \"packets\"
listen    = {listen}
nat       = \"{nat}\"
scheduler = \"{scheduler}\"
backends  = {backend}

# Layer 4 as well: TLS goes through to the backends.
[[service]]
name      = \"through\"
listen    = {through_at}
nat       = \"{nat}\"
scheduler = \"{scheduler}\"
backends  = {through}

# Layer 7: TLS ends here, and each request goes where its host and path say.
[[service]]
name      = \"shop\"
mode      = \"l7\"
listen    = {shop}
upstreams = \"pool\"
tls       = [{{ chain = \"{{{CHAIN}}}\", key = \"{{{KEY}}}\" }}]
",
        tun = topology::TUN,
        local = list(local),
        listen = list(vip),
        backend = list(backend),
        shop = at(topology::HTTPS),
    );
    for (keys, group) in [
        ("path     = \"/api/\"", "api"),
        ("path     = \"/img/\"", "img"),
        (&format!("host     = \"{}\"", topology::IMAGES), "img"),
        ("path     = \"/pool/\"", "pool"),
        ("path     = \"/\"", "api"),
    ] {
        // Nothing that is written to a string fails.
        let _ = write!(text, "\n  [[service.route]]\n  {keys}\n  backends = \"{group}\"\n");
    }
    let _ = write!(
        text,
        "
# The same, with a new connection to a backend for each request.
[[service]]
name      = \"new\"
mode      = \"l7\"
listen    = {new}
upstreams = \"new\"
tls       = [{{ chain = \"{{{CHAIN}}}\", key = \"{{{KEY}}}\" }}]
backends  = \"new\"
",
        new = at(topology::HTTPS_NEW)
    );
    for (group, members) in [
        ("api", members(&mut topology.api(), clear)),
        ("img", members(&mut topology.images(), clear)),
        ("pool", members(&mut topology.api(), clear)),
        ("new", members(&mut topology.api(), clear)),
    ] {
        let _ = write!(text, "\n[backends.{group}]\nscheduler = \"{scheduler}\"\nmembers   = {members}\n");
    }
    text
}

fn tcp(topology: Topology, family: Family, port: u16) -> String {
    format!("tcp/{}", std::net::SocketAddr::new(topology.vip(family), port))
}

/// As TOML writes a list of plain texts.
fn list(texts: impl IntoIterator<Item = String>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| format!("\"{text}\"")).collect();
    format!("[{}]", texts.join(", "))
}

/// The configuration as people can read it: files by their names alone.
pub fn shown(options: &Options, topology: Topology) -> String {
    let text = configuration(options, topology);
    [CHAIN, KEY].iter().fold(text, |text, name| text.replace(&format!("{{{name}}}"), name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::app::config::{self, Source};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn the_configuration_is_right_for_every_choice() {
        for line in [
            "lab",
            "lab --nat dnat --scheduler mh --io plain",
            "lab --backends 1 --queues 2 --scheduler p2c",
            "lab --backends 16 --scheduler wlc",
        ] {
            let options = Line::parse_from(line.split(' ')).options;
            let topology = Topology::new(options.backends).unwrap();
            let text = shown(&options, topology);
            let checked = config::from_toml(&Source::new("lab.toml", &text));
            assert!(checked.mistakes.is_empty(), "{line}: {:?}\n{text}", checked.mistakes);
            let config = checked.config.unwrap();
            assert_eq!((config.services.len(), config.plan.sites.len(), config.plan.groups.len()), (2, 2, 4));
        }
    }

    #[test]
    fn each_side_has_its_own_authority() {
        let options = Line::parse_from(["lab"]).options;
        let plan = plan(&options, Topology::new(3).unwrap()).unwrap();
        assert_eq!((plan.certificates.len(), plan.files.len()), (3, 3));
        assert_eq!(plan.authorities.matches("BEGIN CERTIFICATE").count(), 2);
    }
}
