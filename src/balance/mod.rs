//! Balance: where a new flow goes. Virtual services, their backends, schedulers, and passive health.
//!
//! # Theory of operation
//!
//! A [`Balancer`] is built once from a configuration and then shared by all workers. What was
//! configured never changes; what changes is a handful of atomics a backend, its live flows and its
//! health, which the translator reports as it sees them:
//!
//! ```text
//!   first packet of a flow                                  what became of it
//!        │ find(protocol, endpoint)                              ▲
//!        ▼                                                       │ opened, accepted | refused, closed
//!       Vip ──▶ Service ─┬─▶ Group of its IPv4 backends ─┐       │
//!                        └─▶ Group of its IPv6 backends ─┴─▶ scheduler ──▶ Backend
//!                              pick(now, vip, tuple, chance)
//! ```
//!
//! - A flow stays in the family of its VIP: translating between families is another trade. So each
//!   service has two groups, and a listen is refused if no backend is of its family.
//! - A backend that drains is in no group: it gets no new flow, and keeps those it has, which is the
//!   flow table's doing. A backend that is down (see [`Health`]) is passed over until its trial.
//! - A pick happens once in the life of a flow. It allocates nothing; only `wrr` takes a lock. A
//!   packet of a known flow does not come here at all.
//! - Who picks must report. [`Balancer::opened`] when the flow is in the table,
//!   [`Balancer::closed`] when it leaves it. [`Balancer::accepted`] when the backend has answered the
//!   flow for the first time (a SYN-ACK, or any datagram), [`Balancer::refused`] when it has turned
//!   it away instead (a RST to the SYN, or an ICMP unreachable). A flow that was picked for and never
//!   opened needs no report: a trial that was lost this way comes again.
//! - No clock and no dice: `now` and `chance` are arguments. All that is random is `p2c`.
//!
//! # Memory ordering
//!
//! Every atomic in this room stands for itself: no value of one says that another memory was written.
//! So all of them are relaxed, and what a worker reads may be some nanoseconds old. Where that shows
//! (two workers that pick the least busy backend at the same moment, or a backend that goes
//! down just after it was looked at), the type concerned says why it does no harm. Within one worker
//! everything is in order: after its own `refused` has taken a backend down, its next pick knows.

mod backend;
mod build;
mod error;
mod group;
mod hash;
mod health;
pub mod maglev;
mod scheduler;
mod service;

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use rand::Rng;

use crate::datapath::{BackendId, Instant, ServiceId, VipId};
use crate::packet::{Address, Endpoint, FiveTuple, Protocol};

pub use self::backend::{Backend, BackendSpec, Weight};
pub use self::error::BalanceError;
pub use self::group::BackendGroup;
pub use self::health::{Health, PassiveHealth};
pub use self::scheduler::SchedulerKind;
pub use self::service::{Listen, Service, ServiceSpec, Vip};

use self::scheduler::Group;

/// All virtual services and all backends.
#[derive(Debug)]
pub struct Balancer {
    services: Vec<Service>,
    vips: Vec<Vip>,
    backends: Vec<Backend>,
    by_listen: HashMap<Listen, VipId, FixedState>,
    addresses: HashSet<Address, FixedState>,
    backend_addresses: HashSet<Address, FixedState>,
}

impl Balancer {
    /// The VIP that takes flows to this endpoint.
    #[inline]
    pub fn find(&self, protocol: Protocol, endpoint: Endpoint) -> Option<VipId> {
        self.by_listen.get(&Listen { protocol, endpoint }).copied()
    }

    /// Whether any service listens on this address, whatever the protocol and port, or it was added as
    /// a VIP by itself.
    #[inline]
    pub fn is_vip(&self, address: Address) -> bool {
        self.addresses.contains(&address)
    }

    /// One listen of one service.
    #[inline]
    pub fn vip(&self, vip: VipId) -> Option<&Vip> {
        self.vips.get(vip.index())
    }

    /// All of them, by their ids.
    pub fn vips(&self) -> &[Vip] {
        &self.vips
    }

    /// One service.
    #[inline]
    pub fn service(&self, service: ServiceId) -> Option<&Service> {
        self.services.get(service.index())
    }

    /// All of them, by their ids.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// One backend.
    #[inline]
    pub fn backend(&self, backend: BackendId) -> Option<&Backend> {
        self.backends.get(backend.index())
    }

    /// All of them, by their ids.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Whether any backend has this address.
    pub fn is_backend(&self, address: Address) -> bool {
        self.backend_addresses.contains(&address)
    }

    /// The backend for a new flow to this VIP; `None` when the service has none of the VIP's family that
    /// is up and takes new flows. The tuple is the original one, from the client to the VIP.
    pub fn pick<R: Rng + ?Sized>(
        &self,
        now: Instant,
        vip: VipId,
        tuple: &FiveTuple,
        chance: &mut R,
    ) -> Option<BackendId> {
        self.group(vip)?.pick(now, tuple, chance)
    }

    /// The backend that a flow in its middle must have been given when it was opened, for all that
    /// can be told from the packet: what [`Balancer::pick`] would say now. `None` for schedulers whose
    /// choice depends on more than the packet.
    pub fn place(&self, now: Instant, vip: VipId, tuple: &FiveTuple) -> Option<BackendId> {
        self.group(vip)?.place(now, tuple)
    }

    /// A flow was given to this backend.
    pub fn opened(&self, backend: BackendId) {
        if let Some(backend) = self.backend(backend) {
            backend.state.opened();
        }
    }

    /// A flow of this backend has ended.
    pub fn closed(&self, backend: BackendId) {
        if let Some(backend) = self.backend(backend) {
            backend.state.closed();
        }
    }

    /// The backend accepted a flow. Its new health, where this has changed it.
    pub fn accepted(&self, backend: BackendId) -> Option<Health> {
        let backend = self.backend(backend)?;
        self.note(backend, backend.state.health.accepted()?)
    }

    /// The backend refused a flow. Its new health, where this has changed it.
    pub fn refused(&self, now: Instant, backend: BackendId) -> Option<Health> {
        let backend = self.backend(backend)?;
        self.note(backend, backend.state.health.refused(now)?)
    }

    fn note(&self, backend: &Backend, health: Health) -> Option<Health> {
        let service = self.service(backend.service)?;
        if !backend.draining {
            service.group(backend.endpoint.address.family()).changed(health);
        }
        Some(health)
    }

    fn group(&self, vip: VipId) -> Option<&Group> {
        let vip = self.vip(vip)?;
        Some(self.service(vip.service)?.group(vip.listen.endpoint.address.family()))
    }
}

#[cfg(test)]
mod tests;
