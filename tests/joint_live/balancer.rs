//! The joint balancer of a test: device, cores, host and workers as `run` has them, in the namespace in the middle.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use fourseven::app::config::{self, Source};
use fourseven::app::cores::{Account, Cores, device_traits, joined};
use fourseven::datapath::Totals;
use fourseven::io::host::{Host, HostPlan};
use fourseven::io::{self, Clock, IoChoice, IoError, Stop, TunRequest, WorkerOptions, run_with_tasks};
use fourseven::l7::spec::{GroupId, Plan, RouteSpec, SiteSpec, UpstreamMode};
use fourseven::packet::Endpoint;

use super::net::{FAMILIES, Net};
use super::proxy::Proxy;

/// The port of layer 7 on the VIPs of layer 4.
pub const LAYER_7: u16 = 443;

/// A balancer that runs.
pub struct Balancer {
    account: Account,
    stop: Stop,
    thread: JoinHandle<Result<(), IoError>>,
}

impl Balancer {
    /// Starts one for the lab's network, and waits until the host is configured.
    pub fn start(net: &Net, io: IoChoice, queues: usize) -> Self {
        let topology = net.topology;
        let vips = FAMILIES.map(|family| topology.vip(family));
        let backends = topology.backend_endpoints();
        let listens = vips.map(|vip| format!("\"tcp/{}\"", SocketAddr::new(vip, 80))).join(", ");
        let quoted = backends.iter().map(|backend| format!("\"{backend}\"")).collect::<Vec<_>>().join(", ");
        let text = format!("[[service]]\nname = \"web\"\nlisten = [{listens}]\nbackends = [{quoted}]\n");
        let listen = vips.map(|vip| SocketAddr::new(vip, LAYER_7).into());
        let site = SiteSpec {
            upstreams: UpstreamMode::New,
            routes: vec![RouteSpec::to(GroupId(0))],
            ..SiteSpec::plain("site", listen.into())
        };
        let plan = Plan { sites: vec![site], ..Plan::default() };
        let backends: Vec<Endpoint> = backends.into_iter().map(Endpoint::from).collect();
        net.balancer.run(move || {
            let mut config = config::from_toml(&Source::new("test.toml", &text)).config.unwrap();
            config.plan = plan;
            let opened = io::open(&TunRequest { name: "fs0".into(), io, queues }).unwrap();
            let Cores { translators, account } = Cores::build(&config, queues).unwrap();
            let device = device_traits(config.tun.mtu, opened.kind);
            let listen = config.plan.sites[0].listen.clone();
            let proxy = move |worker| Proxy::new(device, worker, queues, &listen, &backends);
            let builders = joined(translators, &config, proxy);
            let stop = Stop::new();
            let (counters, theirs) = (account.counters(), stop.clone());
            let (ready, is_ready) = mpsc::channel();
            // The thread belongs to the namespace, where the host is configured and set back.
            let thread = std::thread::spawn(move || {
                let host = Host::configure(&HostPlan {
                    device: opened.name,
                    mtu: Some(config.tun.mtu.into()),
                    vips: vips.to_vec(),
                    locals: config.tun.local.clone(),
                    dnat_backends: vec![],
                })
                .unwrap();
                ready.send(()).unwrap();
                let options = WorkerOptions::default();
                let ended =
                    run_with_tasks(builders, opened.queues, counters, Clock::start(), &theirs, &options);
                drop(host);
                ended
            });
            is_ready.recv().unwrap();
            Self { account, stop, thread }
        })
    }

    /// Stops it, as a signal does.
    pub fn stop(self) -> Result<Totals, IoError> {
        self.stop.trigger();
        self.thread.join().unwrap()?;
        Ok(totals(&self.account))
    }

    /// Waits for it to end by itself.
    pub fn end(self) -> (IoError, Totals) {
        (self.thread.join().unwrap().unwrap_err(), totals(&self.account))
    }
}

fn totals(account: &Account) -> Totals {
    let counters = account.counters();
    Totals::of(counters.iter().map(|counters| &**counters))
}
