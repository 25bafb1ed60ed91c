//! The network out of namespaces: real kernels at both ends, a real TUN in the middle.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::attempt::{Attempt, Try};
use super::crew::{Crew, HostId};
use super::error::LabError;
use super::network::{Layer7, Network};
use super::order::{Order, TextFile};
use super::report::Report;
use super::sandbox::Forbidden;
use super::serve::{Certificate, Serve};
use super::topology::{self, BALANCER, CLIENT, Topology};
use super::visit::{Visit, Visited};
use crate::io::host::Netlink;
use crate::packet::Family;

/// How long the balancer may take until it balances.
const BALANCER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the user's own backend may take until it listens, and how often its end is looked for.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(15);
const FOREIGN_STEP: Duration = Duration::from_millis(250);
/// How long the kernel may take to remove what the dead leave behind, and how often that is looked at.
const KERNEL_PATIENCE: Duration = Duration::from_secs(3);
const KERNEL_STEP: Duration = Duration::from_millis(5);
/// How long the balancer may take to end.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who is in it.
    pub topology: Topology,
    /// The arguments that make `fourseven` the balancer.
    pub balancer: Vec<String>,
    /// The files that they name.
    pub files: Vec<TextFile>,
    /// The backends' certificates, by their numbers less one.
    pub certificates: Vec<Certificate>,
    /// Whom the client trusts: certificates in PEM.
    pub authorities: String,
    /// A shell command to run as each backend, in place of the built-in servers.
    pub backend_command: Option<String>,
}

/// The network, alive as long as this is.
#[derive(Debug)]
pub struct Namespaces {
    crew: Crew,
    topology: Topology,
    client: HostId,
    balancer: HostId,
    backends: Vec<Backend>,
    certificates: Vec<Certificate>,
    said: Vec<String>,
}

#[derive(Debug)]
struct Backend {
    host: HostId,
    /// The user's own server, where there is one.
    foreign: Option<Child>,
}

impl Namespaces {
    /// Builds the network and starts everything in it. The process must be in a namespace of its own
    /// already ([`sandbox::enter`](super::sandbox::enter)), and this its main thread.
    ///
    /// # Errors
    ///
    /// What could not be built, and why.
    pub fn build(plan: &Plan) -> Result<Self, LabError> {
        let mut crew = Crew::new()?;
        let topology = plan.topology;
        let client = crew.spawn(CLIENT)?;
        let balancer = crew.spawn(BALANCER)?;
        let backends = topology
            .backends()
            .map(|number| Ok(Backend { host: crew.spawn(&Topology::backend_name(number))?, foreign: None }))
            .collect::<Result<Vec<_>, LabError>>()?;
        let certificates = plan.certificates.clone();
        let mut lab = Self { crew, topology, client, balancer, backends, certificates, said: Vec::new() };
        let hosts: Vec<_> = lab.hosts().collect();
        for &host in &hosts {
            lab.crew.greet(host)?;
        }
        lab.plug()?;
        lab.set_up(&hosts)?;
        lab.start_backends(plan.backend_command.as_deref())?;
        let trust = Order::Trust { authorities: plan.authorities.clone() };
        lab.crew.carry_out(lab.client, &trust)?;
        lab.start_balancer(plan.balancer.clone(), plan.files.clone())?;
        Ok(lab)
    }

    fn hosts(&self) -> impl Iterator<Item = HostId> + '_ {
        [self.client, self.balancer].into_iter().chain(self.backends.iter().map(|backend| backend.host))
    }

    fn backend(&self, number: u8) -> Option<&Backend> {
        self.backends.get(usize::from(number).checked_sub(1)?)
    }

    /// Makes each link here, where nobody else is, and gives its ends away.
    fn plug(&self) -> Result<(), LabError> {
        let netlink = Netlink::open()?;
        let balancer = self.crew.pid(self.balancer);
        let mut links = vec![(
            self.topology.client_end(),
            self.crew.pid(self.client),
            self.topology.balancer_end_to_client(),
        )];
        links.extend(self.topology.backends().zip(&self.backends).map(|(number, backend)| {
            let ends = (self.topology.backend_end(number), self.topology.balancer_end_to_backend(number));
            (ends.0, self.crew.pid(backend.host), ends.1)
        }));
        for (end, host, balancer_end) in links {
            netlink.add_veth(&end.arrives_as, &balancer_end.arrives_as).map_err(|error| {
                Forbidden::new(error.to_string(), "sudo modprobe veth, or a kernel with CONFIG_VETH")
            })?;
            netlink.move_to_pid(&end.arrives_as, host)?;
            netlink.move_to_pid(&balancer_end.arrives_as, balancer)?;
        }
        Ok(())
    }

    fn set_up(&mut self, hosts: &[HostId]) -> Result<(), LabError> {
        let topology = self.topology;
        let mut at_balancer = vec![topology.balancer_end_to_client()];
        at_balancer.extend(topology.backends().map(|number| topology.balancer_end_to_backend(number)));
        let set_up = |links| Order::SetUp { links };
        self.crew.order(self.client, &set_up(vec![topology.client_end()]))?;
        self.crew.order(self.balancer, &set_up(at_balancer))?;
        for (number, backend) in topology.backends().zip(&self.backends) {
            self.crew.order(backend.host, &set_up(vec![topology.backend_end(number)]))?;
        }
        for &host in hosts {
            self.crew.done(host)?;
        }
        Ok(())
    }

    fn start_backends(&mut self, command: Option<&str>) -> Result<(), LabError> {
        match command {
            Some(command) => self.start_foreign(command),
            None => self.start_servers(),
        }
    }

    fn start_servers(&mut self) -> Result<(), LabError> {
        for (number, backend) in self.topology.backends().zip(&self.backends) {
            self.crew.order(backend.host, &Order::Serve { what: self.server(number) })?;
        }
        for backend in &self.backends {
            self.crew.done(backend.host)?;
        }
        Ok(())
    }

    /// What a backend serves.
    fn server(&self, number: u8) -> Serve {
        let addresses = [Family::V4, Family::V6].map(|family| self.topology.backend(family, number));
        let at = |port| addresses.map(|address| SocketAddr::new(address, port)).to_vec();
        Serve {
            name: Topology::backend_name(number),
            http: at(topology::BACKEND),
            https: at(topology::BACKEND_TLS),
            certificate: self.certificates.get(usize::from(number).saturating_sub(1)).cloned(),
            tcp_echo: at(topology::BACKEND_ECHO),
            udp_echo: at(topology::BACKEND),
            ..Serve::default()
        }
    }

    fn start_foreign(&mut self, command: &str) -> Result<(), LabError> {
        for (number, backend) in self.topology.backends().zip(&mut self.backends) {
            let [v4, v6] = [Family::V4, Family::V6].map(|family| self.topology.backend(family, number));
            // The host keeps the machine's own name, which programs expect to resolve.
            let mut start = self.crew.inside(backend.host, None);
            start
                .args(["sh", "-c", command])
                .env("FOURSEVEN_NAME", Topology::backend_name(number))
                .env("FOURSEVEN_ADDRESS", v4.to_string())
                .env("FOURSEVEN_ADDRESS6", v6.to_string())
                .env("FOURSEVEN_PORT", topology::BACKEND.to_string())
                .process_group(0)
                .stdin(Stdio::null())
                // Standard output is for results of ours.
                .stdout(io::stderr());
            backend.foreign = Some(start.spawn().map_err(LabError::system("start the backend command"))?);
        }
        for number in self.topology.backends() {
            self.await_foreign(number)?;
        }
        Ok(())
    }

    /// Waits until the user's own backend listens, or has ended.
    fn await_foreign(&mut self, number: u8) -> Result<(), LabError> {
        let failed = |why| LabError::BackendCommand { host: Topology::backend_name(number), why };
        let at = (self.topology.backend(Family::V4, number), topology::BACKEND).into();
        for _ in 0..FOREIGN_PATIENCE.as_millis() / FOREIGN_STEP.as_millis() {
            let place = usize::from(number).saturating_sub(1);
            let Some(backend) = self.backends.get_mut(place) else { return Ok(()) };
            let ended = backend.foreign.as_mut().and_then(|foreign| foreign.try_wait().ok()?);
            if let Some(status) = ended {
                return Err(failed(format!("ended ({status})")));
            }
            match self.crew.carry_out(backend.host, &Order::AwaitListener { at, patience: FOREIGN_STEP }) {
                Err(LabError::Failed { .. }) => {}
                other => return other,
            }
        }
        Err(failed(format!("does not listen on {at}")))
    }

    fn start_balancer(&mut self, arguments: Vec<String>, files: Vec<TextFile>) -> Result<(), LabError> {
        self.crew.order(self.balancer, &Order::Become { arguments, files })?;
        if let Some(lines) = self.crew.await_log(self.balancer, "ready:", BALANCER_PATIENCE)? {
            self.said = lines;
            return Ok(());
        }
        let said = self.crew.log(self.balancer).join("\n  ");
        Err(LabError::Failed { host: BALANCER.into(), why: format!("it is not ready; it said:\n  {said}") })
    }

    /// Waits until the balancer has a link no more. The kernel takes a namespace down some time after
    /// its last process has ended; until then a dead host's kernel still answers.
    fn await_unplugged(&self, link: &str) {
        let devices = format!("/proc/{}/net/dev", self.crew.pid(self.balancer));
        let there =
            |list: String| list.lines().any(|line| line.trim_start().starts_with(&format!("{link}:")));
        until(|| !fs::read_to_string(&devices).is_ok_and(there));
    }

    /// Waits until nothing in a host listens on the backends' port any more. Of a program that was killed together with
    /// its process namespace the kernel closes the sockets some time later; until then connections are
    /// accepted and broken off, which is not what a backend without a server does.
    fn await_silent(&self, host: HostId) {
        let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{}/net/{table}", self.crew.pid(host)));
        until(|| !tables.iter().any(|table| fs::read_to_string(table).is_ok_and(|list| listens(&list))));
    }

    /// What the balancer said until it was ready, that line last.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// The hosts' names and process ids.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let names = [CLIENT.to_owned(), BALANCER.to_owned()]
            .into_iter()
            .chain(self.topology.backends().map(Topology::backend_name));
        names.zip(self.hosts().map(|host| self.crew.pid(host))).collect()
    }

    /// Lets the user's program run in a host, on this terminal, and waits for its end.
    ///
    /// # Errors
    ///
    /// There is no such host, or the program cannot be started.
    pub fn visit(&self, name: &str, program: &str) -> Result<std::process::ExitStatus, LabError> {
        let host = self
            .processes()
            .iter()
            .position(|(host, _)| host == name)
            .and_then(|place| self.hosts().nth(place))
            .ok_or_else(|| LabError::Failed { host: name.to_owned(), why: "there is no such host".into() })?;
        self.crew.inside(host, Some(name)).arg(program).status().map_err(LabError::system("start the shell"))
    }

    /// Waits until a host other than the balancer is ended from outside, and gives its name.
    ///
    /// # Errors
    ///
    /// The balancer is gone, or a signal came: see [`LabError::Interrupted`].
    pub fn hold(&mut self) -> Result<String, LabError> {
        loop {
            match self.crew.wait_for_an_end() {
                Err(LabError::HostGone { host, .. }) if host != BALANCER => return Ok(host),
                Err(other) => return Err(other),
                Ok(()) => {}
            }
        }
    }
}

impl Network for Namespaces {
    fn attempt(&mut self, what: Try) -> Result<Attempt, LabError> {
        self.crew.attempt(self.client, what)
    }

    fn stop_server(&mut self, backend: u8) -> Result<(), LabError> {
        let place = usize::from(backend).saturating_sub(1);
        let Some(Backend { host, foreign }) = self.backends.get_mut(place) else { return Ok(()) };
        let host = *host;
        match foreign {
            Some(foreign) => {
                end(foreign);
                self.await_silent(host);
                Ok(())
            }
            None => self.crew.carry_out(host, &Order::StopServing),
        }
    }

    fn cut(&mut self, backend: u8) -> Result<(), LabError> {
        self.stop_server(backend)?;
        if let Some(host) = self.backend(backend).map(|backend| backend.host) {
            self.crew.kill(host)?;
            self.await_unplugged(&self.topology.balancer_end_to_backend(backend).name);
        }
        Ok(())
    }

    fn layer7(&mut self) -> Option<&mut dyn Layer7> {
        // The user's own servers are not known to speak TLS.
        let built_in = self.backends.iter().all(|backend| backend.foreign.is_none());
        built_in.then_some(self as &mut dyn Layer7)
    }

    fn finish(&mut self) -> Result<Report, LabError> {
        read_account(&self.crew.end(self.balancer, END_PATIENCE))
    }
}

impl Layer7 for Namespaces {
    fn visit(&mut self, what: Visit) -> Result<Visited, LabError> {
        self.crew.visit(self.client, what)
    }

    fn account(&mut self) -> Result<Report, LabError> {
        self.crew.signal(self.balancer, Signal::SIGUSR1);
        let lines = self.crew.await_log(self.balancer, "{", END_PATIENCE)?.unwrap_or_default();
        read_account(lines.last().map_or("", String::as_str))
    }

    fn start_server(&mut self, backend: u8) -> Result<(), LabError> {
        let what = self.server(backend);
        match self.backend(backend).map(|backend| backend.host) {
            Some(host) => self.crew.carry_out(host, &Order::Serve { what }),
            None => Ok(()),
        }
    }
}

fn read_account(account: &str) -> Result<Report, LabError> {
    serde_json::from_str(account).map_err(|error| LabError::Failed {
        host: BALANCER.into(),
        why: format!("its account cannot be read: {error}\n{account}"),
    })
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.backends.iter_mut().filter_map(|backend| backend.foreign.as_mut()).for_each(end);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until the kernel has done something, but not for ever.
fn until(done: impl Fn() -> bool) {
    for _ in 0..KERNEL_PATIENCE.as_millis() / KERNEL_STEP.as_millis() {
        if done() {
            return;
        }
        thread::sleep(KERNEL_STEP);
    }
}

/// Whether `/proc/net/tcp` or `tcp6` shows a socket that listens on the backends' port.
fn listens(list: &str) -> bool {
    const LISTEN: &str = "0A";
    list.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let port = fields.nth(1).and_then(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok());
        port == Some(topology::BACKEND) && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::listens;

    #[test]
    fn only_a_socket_that_listens_on_the_port_counts() {
        let line = |local, state| {
            format!("  sl  local_address rem_address   st\n   0: {local} 00000000:0000 {state} 0:0")
        };
        for (local, state, want) in [
            ("00000000:1F90", "0A", true),
            ("00000000000000000000000000000000:1F90", "0A", true),
            ("0202270A:1F90", "06", false),
            ("00000000:1F91", "0A", false),
        ] {
            assert_eq!(listens(&line(local, state)), want, "{local} {state}");
        }
        assert!(!listens(""));
    }
}
