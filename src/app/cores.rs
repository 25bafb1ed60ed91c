//! From a configuration to the cores that carry it out, and to what they count.
//!
//! ```text
//!   layer 4 alone       Cores::build ──▶ translators ──▶ run_workers
//!   with layer 7        Cores::build ──▶ translators ──▶ joined, with what makes a proxy ──▶ run_with_tasks
//! ```

use std::sync::Arc;

use anyhow::Context;

use crate::app::config::Config;
use crate::app::core::{Core, Listens};
use crate::app::report::{Layer7, Report};
use crate::balance::{Balancer, ServiceSpec};
use crate::datapath::{Counters, Datapath, Totals, WorkerId};
use crate::flow::{LocalPool, Settings, Shared};
use crate::io::QueueKind;
use crate::l4::{Setup, Translator};
use crate::l7::stack::{DeviceTraits, Offloads};
use crate::packet::Endpoint;

/// One core a worker, and the account of what they do.
pub struct Cores {
    /// The layer-4 cores, by their workers' ids.
    pub translators: Vec<Translator>,
    /// What they count.
    pub account: Account,
}

/// What the cores count, to be looked at from any thread while they work.
#[derive(Clone)]
pub struct Account {
    services: Arc<[ServiceSpec]>,
    counters: Vec<Arc<Counters>>,
    flows: Arc<Shared>,
    layer7: Option<Arc<dyn Fn() -> Layer7 + Send + Sync>>,
}

impl Cores {
    /// Cores for this many workers. They know the addresses of layer 7 as VIPs.
    ///
    /// # Errors
    /// When the services do not fit each other, which the checks of a configuration prevent, or when
    /// the system gives no randomness for a seed that was not configured.
    pub fn build(config: &Config, workers: usize) -> anyhow::Result<Self> {
        let seed = match config.seed {
            Some(seed) => seed,
            None => getrandom::u64().context("cannot get a random seed")?,
        };
        let balancer = Balancer::new(config.services.clone(), config.health, seed)?;
        let balancer = balancer
            .with_addresses(config.plan.sites.iter().flat_map(|site| &site.listen).map(|at| at.address));
        let settings = Settings {
            max_flows: config.flows.max,
            max_flows_per_client: config.flows.max_per_client,
            timeouts: config.timeouts,
        };
        let pool = LocalPool::new(&config.tun.local, config.flows.local_ports.clone())?;
        let vips = balancer.vips().iter().map(|vip| (vip.listen.protocol, vip.listen.endpoint)).collect();
        let backends: Vec<Endpoint> = balancer.backends().iter().map(|backend| backend.endpoint).collect();
        let flows = Arc::new(Shared::new(settings, vips, &backends, pool, seed));
        let ids = (0..=u8::MAX).map(WorkerId).take(workers.min(WorkerId::MAX));
        let setup = Setup {
            balancer: Arc::new(balancer),
            flows: Arc::clone(&flows),
            fragment_lifetime: config.timeouts.fragment,
            workers: ids.clone().fold(0, |workers, _| workers + 1),
            seed,
        };
        let counters: Vec<_> = ids.clone().map(|_| Arc::new(Counters::new(backends.len()))).collect();
        let translators = ids
            .zip(&counters)
            .map(|(worker, counters)| Translator::new(&setup, worker, Arc::clone(counters)))
            .collect();
        Ok(Self {
            translators,
            account: Account { services: config.services.as_slice().into(), counters, flows, layer7: None },
        })
    }
}

/// What makes the joint core of each worker, on that worker's thread: its translator, and the proxy that `proxy` makes.
pub fn joined<P, F>(
    translators: Vec<Translator>,
    config: &Config,
    proxy: F,
) -> Vec<impl FnOnce(WorkerId) -> Core<P> + Send + use<P, F>>
where
    P: Datapath,
    F: FnOnce(WorkerId) -> P + Clone + Send,
{
    let listens = Arc::new(Listens::new(&config.services, &config.plan));
    let builder = |translator| {
        let (listens, proxy) = (Arc::clone(&listens), proxy.clone());
        move |worker| Core::new(translator, proxy(worker), listens)
    };
    translators.into_iter().map(builder).collect()
}

/// What layer 7 must know of a device with queues of this kind.
pub const fn device_traits(mtu: u16, kind: QueueKind) -> DeviceTraits {
    let offloads = match kind {
        QueueKind::Offload | QueueKind::Memory => Offloads::Segments,
        QueueKind::Plain => Offloads::None,
    };
    DeviceTraits { mtu, offloads }
}

impl Account {
    /// Each worker's counters, by their ids.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }

    /// The same with what layer 7 counts, which `read` reads.
    #[must_use]
    pub fn with_layer7(mut self, read: impl Fn() -> Layer7 + Send + Sync + 'static) -> Self {
        self.layer7 = Some(Arc::new(read));
        self
    }

    /// What has happened so far.
    pub fn report(&self) -> Report {
        let totals = Totals::of(self.counters.iter().map(Arc::as_ref));
        let layer7 = self.layer7.as_ref().map(|read| read());
        let live = u64::from(self.flows.live()) + u64::from(self.flows.left());
        Report::new(&self.services, &totals, live).with_layer7(layer7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::{self, Source};

    #[test]
    fn the_full_example_makes_cores_that_have_nothing_to_report() {
        let source = Source::new("full.toml", include_str!("../../tests/good/full.toml"));
        let config = config::from_toml(&source).config.unwrap();
        let cores = Cores::build(&config, 3).unwrap();
        assert_eq!((cores.translators.len(), cores.account.counters().len()), (3, 3));
        let report = cores.account.report();
        assert!(report.agree && report.packets.received == 0);
        let backends: usize = report.services.iter().map(|service| service.backends.len()).sum();
        assert_eq!(backends, 6);
    }
}
