//! From services as configured to a [`Balancer`], or to what is wrong with them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::datapath::{BackendId, ServiceId, VipId};
use crate::packet::Address;
use crate::packet::Family;

use super::Balancer;
use super::backend::{Backend, BackendSpec, State};
use super::error::BalanceError;
use super::health::PassiveHealth;
use super::maglev;
use super::scheduler::{Group, Member};
use super::service::{Listen, Service, ServiceSpec, Vip};

/// How many services, and how many VIPs, their ids can number.
const MOST: usize = u16::MAX as usize + 1;

impl Balancer {
    /// Builds it from services as configured. Ids are given in the order of the configuration,
    /// counted over all services.
    ///
    /// `seed` only stirs the tables in which listens are looked up. No choice of a backend
    /// depends on it, so that a restart and a second balancer choose alike.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the services.
    pub fn new(services: Vec<ServiceSpec>, passive: PassiveHealth, seed: u64) -> Result<Self, BalanceError> {
        let mut balancer = Self {
            services: Vec::with_capacity(services.len()),
            vips: Vec::new(),
            backends: Vec::new(),
            by_listen: HashMap::with_hasher(FixedState::with_seed(seed)),
            addresses: HashSet::with_hasher(FixedState::with_seed(seed)),
            backend_addresses: HashSet::with_hasher(FixedState::with_seed(seed)),
        };
        for spec in services {
            let id = u16::try_from(balancer.services.len())
                .map(ServiceId)
                .map_err(|_| BalanceError::TooManyServices { most: MOST })?;
            balancer.add(id, spec, passive)?;
        }
        let addresses = balancer.backends.iter().map(|backend| backend.endpoint.address);
        balancer.backend_addresses.extend(addresses);
        Ok(balancer)
    }

    /// The same with these addresses as VIPs too, although nothing here takes flows to them. What is said about a
    /// VIP is then true of them: they answer pings, and refuse flows that nobody else takes.
    #[must_use]
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.addresses.extend(addresses);
        self
    }

    fn add(&mut self, id: ServiceId, spec: ServiceSpec, passive: PassiveHealth) -> Result<(), BalanceError> {
        if spec.listen.is_empty() {
            return Err(BalanceError::NoListen { service: spec.name });
        }
        if spec.backends.is_empty() {
            return Err(BalanceError::NoBackend { service: spec.name });
        }
        if spec.backends.len() > maglev::MOST_BACKENDS {
            return Err(BalanceError::TooManyBackends { service: spec.name, most: maglev::MOST_BACKENDS });
        }
        for &listen in &spec.listen {
            self.add_vip(id, &spec, listen)?;
        }
        let mut backends = Vec::with_capacity(spec.backends.len());
        let (mut v4, mut v6, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for &BackendSpec { endpoint, weight, drain } in &spec.backends {
            if endpoint.port == 0 {
                return Err(BalanceError::BackendPortZero { service: spec.name, backend: endpoint });
            }
            if !seen.insert(endpoint) {
                return Err(BalanceError::DuplicateBackend { service: spec.name, backend: endpoint });
            }
            let state = Arc::new(State::new(passive));
            let backend = Backend { endpoint, service: id, weight, draining: drain, state };
            let id = self.next_backend();
            if !drain {
                let members = match endpoint.address.family() {
                    Family::V4 => &mut v4,
                    Family::V6 => &mut v6,
                };
                members.push(Member::new(id, &backend));
            }
            self.backends.push(backend);
            backends.push(id);
        }
        let ServiceSpec { name, nat, scheduler, .. } = spec;
        let [v4, v6] = [v4, v6].map(|members| Group::new(scheduler, members));
        self.services.push(Service { name, nat, scheduler, backends, v4, v6 });
        Ok(())
    }

    fn next_backend(&self) -> BackendId {
        let id = u32::try_from(self.backends.len());
        BackendId(id.expect("65,536 services have at most 65,535 backends each"))
    }

    fn add_vip(&mut self, id: ServiceId, spec: &ServiceSpec, listen: Listen) -> Result<(), BalanceError> {
        let service = || spec.name.clone();
        if listen.endpoint.port == 0 {
            return Err(BalanceError::ListenPortZero { service: service(), listen });
        }
        let family = listen.endpoint.address.family();
        if !spec.backends.iter().any(|backend| backend.endpoint.address.family() == family) {
            return Err(BalanceError::NoBackendOfFamily { service: service(), listen, family });
        }
        if let Some(first) = self.find(listen.protocol, listen.endpoint).and_then(|vip| self.vip(vip)) {
            // The service that is being added is not among the others yet.
            let first = self.service(first.service).map_or_else(service, |first| first.name.clone());
            return Err(BalanceError::DuplicateListen { listen, first, second: service() });
        }
        let vip = u16::try_from(self.vips.len())
            .map(VipId)
            .map_err(|_| BalanceError::TooManyVips { service: service(), most: MOST })?;
        self.by_listen.insert(listen, vip);
        self.addresses.insert(listen.endpoint.address);
        self.vips.push(Vip { listen, service: id });
        Ok(())
    }
}
