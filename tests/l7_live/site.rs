//! What a test of layer 7 needs beside a network: files, certificates, a configuration, programs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fourseven::l7::tls::authority::{Authority, Issued, Subject};
use fourseven::packet::Family;
use rustls_pki_types::UnixTime;
use serde_json::Value;

use super::balancer::{Balancer, Report};
use super::namespace::Namespace;
use super::net::{FAMILIES, Net};
use super::support::{has, skip_or_fail};

/// The VIP's port for HTTP in the clear, and for HTTPS.
pub const CLEAR: u16 = 80;
pub const SECURE: u16 = 443;

/// All kinds of queues, as a configuration has them.
pub const QUEUES: [&str; 3] = ["io = \"plain\"", "io = \"offload\"", "io = \"offload\"\nqueues = 2"];

/// A folder of a test's own, with an authority that signs its certificates.
pub struct Files {
    folder: PathBuf,
    pub authority: Authority,
}

impl Files {
    /// An empty folder, but for `ca.pem`.
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("l7-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let files = Self { folder, authority: Authority::new("test", UnixTime::now()).unwrap() };
        files.write("ca.pem", &files.authority.pem());
        files
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.folder.join(name), text).unwrap();
        self.path(name)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write_pair(&self, name: &str, pair: &Issued) {
        self.write(&format!("{name}.pem"), &pair.chain);
        self.write(&format!("{name}.key"), &pair.key);
    }

    /// A server's certificate, by its authority.
    pub fn issue(&self, hosts: &[&str]) -> Issued {
        self.authority.server(Subject { hosts, addresses: &[] }).unwrap()
    }

    /// Starts a balancer with this configuration, and waits until it balances.
    pub fn start(&self, host: &Namespace, configuration: &str) -> Balancer {
        let file = self.write("fourseven.toml", configuration);
        Balancer::start_with(host, vec!["-c".into(), file])
    }
}

/// The VIP of a family, with a port.
pub fn vip(net: &Net, family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(net.topology.vip(family), port)
}

/// Both VIPs with this port, as `listen` takes them.
pub fn listen(net: &Net, port: u16) -> String {
    format!("{:?}", FAMILIES.map(|family| format!("tcp/{}", vip(net, family, port))))
}

/// All backends with this port, as a list.
pub fn backends(net: &Net, port: u16) -> String {
    let endpoints = net.topology.backend_endpoints().into_iter();
    format!("{:?}", endpoints.map(|at| SocketAddr::new(at.ip(), port).to_string()).collect::<Vec<_>>())
}

/// Whether these programs are all here; says so where one is not.
pub fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !has(program));
    if let Some(program) = missing {
        skip_or_fail(&format!("{program} is not installed"));
    }
    missing.is_none()
}

/// Runs a program to its end, with this for its input.
pub fn run(host: &Namespace, program: &str, arguments: &[&str], input: &'static [u8]) -> Output {
    let (program, arguments) =
        (program.to_owned(), arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
    host.run(move || {
        use std::io::Write;
        let mut child = Command::new(program)
            .args(arguments)
            .env_remove("SSLKEYLOGFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that does not want it is free not to read it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    })
}

/// What a curl came to.
#[derive(Debug)]
pub struct Got {
    /// `1.1` or `2`, and the status.
    pub version: String,
    pub status: String,
    pub body: Vec<u8>,
    /// What it said besides.
    pub said: String,
    pub ok: bool,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Runs curl, which may take ten seconds; more for `--max-time` that is given again.
pub fn curl(from: &Namespace, arguments: &[&str]) -> Got {
    let common = ["-sS", "--max-time", "20", "-w", "%{stderr}\n%{http_version} %{http_code}"];
    let output = run(from, "curl", &[&common[..], arguments].concat(), b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().next_back().unwrap_or_default();
    let (version, status) = last.split_once(' ').unwrap_or_default();
    Got {
        version: version.to_owned(),
        status: status.to_owned(),
        body: output.stdout,
        ok: output.status.success(),
        said: said.clone(),
    }
}

/// The layer-7 part of a report.
pub trait Layer7 {
    /// A figure of a site: a word among its ends, `sessions` or `requests`.
    fn site(&self, name: &str, of: &str) -> u64;
    /// The same of all backends of a group together.
    fn group(&self, name: &str, of: &str) -> u64;
}

impl Layer7 for Report {
    fn site(&self, name: &str, of: &str) -> u64 {
        sum(&self.0["layer7"]["sites"], "name", name, of)
    }

    fn group(&self, name: &str, of: &str) -> u64 {
        sum(&self.0["layer7"]["upstreams"], "group", name, of)
    }
}

fn sum(rows: &Value, key: &str, name: &str, of: &str) -> u64 {
    let rows = rows.as_array().unwrap().iter().filter(|row| row[key] == name);
    rows.map(|row| {
        let ends = row["ends"].as_array().unwrap();
        let end = ends.iter().find(|end| end["word"] == of).map(|end| &end["count"]);
        end.unwrap_or(&row[of]).as_u64().unwrap_or_default()
    })
    .sum()
}
