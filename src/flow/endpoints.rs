//! The endpoints behind the ids: what each VIP listens on and where each backend is.
//!
//! An entry holds ids of two and four bytes instead of endpoints of eighteen. The lists are small and
//! hot, so resolving an id costs a load from the nearest cache.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use crate::datapath::{BackendId, VipId};
use crate::packet::{Address, Endpoint, Protocol};

pub(super) struct Endpoints {
    vips: Box<[(Protocol, Endpoint)]>,
    backends: Box<[Backend]>,
    vip_addresses: HashSet<Address, FixedState>,
    different: usize,
}

/// A backend's endpoint, and its number among the different ones. Two services may have the same backend;
/// then its ids differ, while a local port is shared by no two flows to the *endpoint*.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backend {
    pub endpoint: Endpoint,
    pub number: u32,
}

impl Endpoints {
    pub fn new(vips: Vec<(Protocol, Endpoint)>, backends: &[Endpoint]) -> Self {
        let mut numbers = HashMap::new();
        let backends = backends.iter().map(|endpoint| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            Backend { endpoint: *endpoint, number: *numbers.entry(*endpoint).or_insert(next) }
        });
        let backends = backends.collect();
        let vip_addresses = vips.iter().map(|(_, endpoint)| endpoint.address).collect();
        Self { vips: vips.into(), backends, vip_addresses, different: numbers.len() }
    }

    #[inline]
    pub fn vip(&self, id: VipId) -> Option<&(Protocol, Endpoint)> {
        self.vips.get(id.index())
    }

    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.get(id.index())
    }

    /// How many different endpoints the backends have.
    pub fn different(&self) -> usize {
        self.different
    }

    /// The addresses of all VIPs.
    pub fn vip_addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.vip_addresses.iter().copied()
    }

    /// Whether an address is a VIP's.
    pub fn is_vip_address(&self, address: Address) -> bool {
        self.vip_addresses.contains(&address)
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let addresses = self.vip_addresses.capacity() * (size_of::<Address>() + 1);
        size_of_val(&self.vips[..]) + size_of_val(&self.backends[..]) + addresses
    }
}
