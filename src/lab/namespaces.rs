//! The network out of namespaces: real kernels at both ends, a real TUN in the middle.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::attempt::{Attempt, Try};
use super::crew::{Crew, HostId};
use super::error::LabError;
use super::network::Network;
use super::order::Order;
use super::report::Report;
use super::sandbox::Forbidden;
use super::serve::Serve;
use super::topology::{self, Topology};
use crate::io::host::Netlink;
use crate::packet::Family;

/// How long the balancer may take until it balances.
const BALANCER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the user's own backend may take until it listens.
const BACKEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long the balancer may take to end.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who is in it.
    pub topology: Topology,
    /// The arguments that make `fourseven` the balancer.
    pub balancer: Vec<String>,
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
        let client = crew.spawn("client")?;
        let balancer = crew.spawn("balancer")?;
        let backends = topology
            .backends()
            .map(|number| Ok(Backend { host: crew.spawn(&Topology::backend_name(number))?, foreign: None }))
            .collect::<Result<Vec<_>, LabError>>()?;
        let mut lab = Self { crew, topology, client, balancer, backends, said: Vec::new() };
        let hosts: Vec<_> = lab.hosts().collect();
        for &host in &hosts {
            lab.crew.greet(host)?;
        }
        lab.plug()?;
        lab.set_up(&hosts)?;
        lab.start_backends(plan.backend_command.as_deref())?;
        lab.start_balancer(plan.balancer.clone())?;
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
        self.crew.order(self.client, &Order::SetUp { links: vec![topology.client_end()] })?;
        self.crew.order(self.balancer, &Order::SetUp { links: at_balancer })?;
        for (number, backend) in topology.backends().zip(&self.backends) {
            self.crew.order(backend.host, &Order::SetUp { links: vec![topology.backend_end(number)] })?;
        }
        for &host in hosts {
            self.crew.done(host)?;
        }
        Ok(())
    }

    fn start_backends(&mut self, command: Option<&str>) -> Result<(), LabError> {
        for (number, backend) in self.topology.backends().zip(&mut self.backends) {
            let name = Topology::backend_name(number);
            let [v4, v6] = [Family::V4, Family::V6].map(|family| self.topology.backend(family, number));
            let order = if let Some(command) = command {
                let mut start = self.crew.inside(backend.host, &name);
                start
                    .args(["sh", "-c", command])
                    .env("FOURSEVEN_NAME", &name)
                    .env("FOURSEVEN_ADDRESS", v4.to_string())
                    .env("FOURSEVEN_ADDRESS6", v6.to_string())
                    .env("FOURSEVEN_PORT", topology::BACKEND.to_string())
                    .process_group(0)
                    .stdin(Stdio::null())
                    // Standard output is for results of ours.
                    .stdout(io::stderr());
                backend.foreign = Some(start.spawn().map_err(LabError::system("start the backend command"))?);
                Order::AwaitListener { at: (v4, topology::BACKEND).into(), patience: BACKEND_PATIENCE }
            } else {
                let at = |port| vec![(v4, port).into(), (v6, port).into()];
                Order::Serve {
                    what: Serve {
                        name,
                        http: at(topology::BACKEND),
                        tcp_echo: at(topology::BACKEND_ECHO),
                        udp_echo: at(topology::BACKEND),
                    },
                }
            };
            self.crew.order(backend.host, &order)?;
        }
        for backend in &self.backends {
            self.crew.done(backend.host)?;
        }
        Ok(())
    }

    fn start_balancer(&mut self, arguments: Vec<String>) -> Result<(), LabError> {
        self.crew.order(self.balancer, &Order::Become { arguments })?;
        match self.crew.await_log(self.balancer, "ready:", BALANCER_PATIENCE)? {
            Some(lines) => {
                self.said = lines;
                Ok(())
            }
            None => {
                let said = self.crew.log(self.balancer).join("\n  ");
                Err(LabError::Failed {
                    host: "balancer".into(),
                    why: format!("it is not ready; it said:\n  {said}"),
                })
            }
        }
    }

    /// What the balancer said until it was ready, that line last.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// The hosts' names and process ids.
    pub fn processes(&self) -> Vec<(String, u32)> {
        let names = ["client".to_owned(), "balancer".to_owned()]
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
        self.crew.inside(host, name).arg(program).status().map_err(LabError::system("start the shell"))
    }

    /// Waits for a signal.
    ///
    /// # Errors
    ///
    /// Always: what ended the wait.
    pub fn hold(&mut self) -> Result<std::convert::Infallible, LabError> {
        self.crew.hold()
    }
}

impl Network for Namespaces {
    fn attempt(&mut self, what: Try) -> Result<Attempt, LabError> {
        self.crew.attempt(self.client, what)
    }

    fn stop_server(&mut self, backend: u8) -> Result<(), LabError> {
        let place = usize::from(backend).saturating_sub(1);
        let Some(backend) = self.backends.get_mut(place) else { return Ok(()) };
        match &mut backend.foreign {
            Some(foreign) => end(foreign),
            None => self.crew.carry_out(backend.host, &Order::StopServing)?,
        }
        Ok(())
    }

    fn cut(&mut self, backend: u8) -> Result<(), LabError> {
        self.stop_server(backend)?;
        match self.backend(backend).map(|backend| backend.host) {
            Some(host) => self.crew.kill(host),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<Report, LabError> {
        let account = self.crew.end(self.balancer, END_PATIENCE);
        serde_json::from_str(&account).map_err(|error| LabError::Failed {
            host: "balancer".into(),
            why: format!("its account cannot be read: {error}\n{account}"),
        })
    }
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
