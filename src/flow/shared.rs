//! What all workers' tables share: the index, the limits, the local endpoints, and what ids mean.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::clients::Clients;
use super::endpoints::Endpoints;
use super::index::{Index, Stripes};
use super::ports::{LocalPool, Uses};
use super::settings::Settings;
use crate::datapath::WorkerId;
use crate::packet::{Address, Endpoint, Protocol};

/// The part of the flow table that all workers have in common, behind an `Arc`.
pub struct Shared {
    pub(super) settings: Settings,
    pub(super) index: Index,
    pub(super) clients: Clients,
    pub(super) endpoints: Endpoints,
    pub(super) pool: LocalPool,
    pub(super) uses: Uses,
    /// Held from looking for an original key until it is entered.
    pub(super) originals: Stripes,
    /// The same for reply keys, taken while the other is held and never the other way round.
    pub(super) replies: Stripes,
    counts: Counts,
}

/// What all workers write to, away from what they only read.
#[derive(Default)]
#[repr(align(128))]
struct Counts {
    live: AtomicU32,
    /// Flows that were live when their workers went.
    left: AtomicU32,
    memory: AtomicUsize,
    workers: AtomicU64,
}

impl Shared {
    /// Everything but the tables, which each worker makes for itself.
    ///
    /// `vips` and `backends` are what `VipId` and `BackendId` count through. VIP addresses
    /// are taken out of the pool: a reply to one would look like the start of a flow. `seed`
    /// must not be known to who sends packets.
    pub fn new(
        settings: Settings,
        vips: Vec<(Protocol, Endpoint)>,
        backends: &[Endpoint],
        mut pool: LocalPool,
        seed: u64,
    ) -> Self {
        let settings = settings.held_to_bounds();
        let endpoints = Endpoints::new(vips, backends);
        for address in endpoints.vip_addresses() {
            pool.exclude(address);
        }
        let shared = Self {
            index: Index::new(settings.max_flows, seed),
            clients: Clients::new(settings.max_flows, settings.max_flows_per_client, seed),
            uses: Uses::new(endpoints.different()),
            endpoints,
            pool,
            originals: Stripes::new(),
            replies: Stripes::new(),
            counts: Counts::default(),
            settings,
        };
        let fixed = [
            size_of::<Self>(),
            shared.index.memory(),
            shared.clients.memory(),
            shared.endpoints.memory(),
            shared.pool.memory(),
            shared.uses.memory(),
            shared.originals.memory(),
            shared.replies.memory(),
        ];
        shared.allocated(fixed.iter().sum());
        shared
    }

    /// Whether the address is one of the local ones, which full NAT sends from.
    pub fn is_local(&self, address: Address) -> bool {
        self.pool.contains(address)
    }

    /// The limits, held to their bounds.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many flows there are now, of all workers.
    pub fn live(&self) -> u32 {
        self.counts.live.load(Relaxed)
    }

    /// How many there were when their workers went: a run that is over still has to account for them.
    pub fn left(&self) -> u32 {
        self.counts.left.load(Relaxed)
    }

    /// Takes note of flows whose worker goes.
    pub(super) fn leave(&self, flows: usize) {
        self.counts.left.fetch_add(u32::try_from(flows).unwrap_or(u32::MAX), Relaxed);
    }

    /// The most flows that there can be.
    pub fn capacity(&self) -> u32 {
        self.settings.max_flows
    }

    /// Bytes that the table takes, all told: what is shared, and all workers' entries and timers. What the
    /// allocator adds is not in it.
    pub fn memory(&self) -> usize {
        self.counts.memory.load(Relaxed)
    }

    /// Counts memory that has been allocated.
    pub(super) fn allocated(&self, bytes: usize) {
        self.counts.memory.fetch_add(bytes, Relaxed);
    }

    /// Counts memory that has been freed.
    pub(super) fn freed(&self, bytes: usize) {
        self.counts.memory.fetch_sub(bytes, Relaxed);
    }

    /// Counts one more flow, unless the table is full.
    pub(super) fn reserve(&self) -> bool {
        let full = self.counts.live.fetch_add(1, Relaxed) >= self.settings.max_flows;
        if full {
            self.release();
        }
        !full
    }

    /// Takes one off again.
    pub(super) fn release(&self) {
        self.counts.live.fetch_sub(1, Relaxed);
    }

    /// Notes that a worker has a table; says whether it had none.
    pub(super) fn claim(&self, worker: WorkerId) -> bool {
        let bit = 1u64.checked_shl(u32::from(worker.0)).unwrap_or(0);
        bit != 0 && self.counts.workers.fetch_or(bit, Relaxed) & bit == 0
    }

    /// Notes that it has none any more.
    pub(super) fn disclaim(&self, worker: WorkerId) {
        self.counts.workers.fetch_and(!1u64.checked_shl(u32::from(worker.0)).unwrap_or(0), Relaxed);
    }
}
