//! The local endpoints that full NAT sends from.
//!
//! A pool is a set of address ranges and one range of ports. Whether an endpoint is free towards a
//! backend is not kept here: the reply key `backend → local endpoint` stands in the flow table's index, or it does
//! not, and so the pool and the flows cannot disagree. What is here is the order in which to try:
//!
//! 1. a random address and port to begin with (RFC 6056 §3.3.1), out of the caller's generator, so that
//!    somebody off the path cannot tell which port the next flow will have;
//! 2. from there one port after the other and one address after the other, all of them in a pool
//!    of up to [`TRIES`] combinations, and [`TRIES`] of a larger one.
//!
//! So "no port" is exact for small pools. In a large one it may be said while a few ports are
//! left: 1,024 in a row were taken, which a pool less than 98 % full shows next to never.
//! Beside that, the flows from the pool to each backend are counted ([`Uses`]), and a pool that is known to be used up answers at once.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use ipnet::IpNet;
use rand::{Rng, RngExt};

use crate::packet::{Address, Endpoint, Family, Protocol};

/// The most local endpoints that are tried for one flow.
pub const TRIES: u64 = 1024;

/// The most addresses used of one prefix.
const MOST_ADDRESSES: u128 = 1 << 16;

/// The addresses and ports that full NAT may send from.
///
/// Each flow begins to look for a free one at a random place (RFC 6056 §3.3.1) and goes on from there: over all of a pool
/// of up to 1,024 endpoints, over 1,024 of a larger one.
#[derive(Clone, Debug)]
pub struct LocalPool {
    ranges: Vec<Range>,
    first_port: u16,
    ports: u64,
}

/// Addresses in a row, of one family. IPv4 ones are numbers in mapped form, so one type does.
#[derive(Clone, Copy, Debug)]
struct Range {
    family: Family,
    first: u128,
    /// At most 65,536.
    count: u64,
}

/// Why there is no pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The range of ports is empty.
    #[error("ports {first} to {last}: there are none in this range")]
    NoPorts {
        /// Where the range begins.
        first: u16,
        /// Where it ends.
        last: u16,
    },
    /// Port 0 cannot be sent from (RFC 6335 §6).
    #[error("port 0 is reserved: let the range begin at 1 or later")]
    PortZero,
}

impl LocalPool {
    /// The ports that are used where nothing else is said: all but the system ports (RFC 6335 §6).
    pub const DEFAULT_PORTS: RangeInclusive<u16> = 1024..=65_535;

    /// All addresses of these prefixes that a host can have, with these ports.
    ///
    /// Left out are an IPv4 prefix's network and broadcast address, unless it is a /31 (RFC 3021) or
    /// a /32, and an IPv6 prefix's subnet-router anycast address (RFC 4291 §2.6.1), unless it is
    /// a /127 (RFC 6164) or a /128. At most 65,536 addresses of a prefix are used. A prefix within
    /// another counts once.
    ///
    /// # Errors
    ///
    /// If there is no port to send from.
    pub fn new(prefixes: &[IpNet], ports: RangeInclusive<u16>) -> Result<Self, PoolError> {
        let (first, last) = (*ports.start(), *ports.end());
        if first == 0 {
            return Err(PoolError::PortZero);
        }
        if ports.is_empty() {
            return Err(PoolError::NoPorts { first, last });
        }
        let mut prefixes: Vec<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let outer: Vec<IpNet> = prefixes
            .iter()
            .filter(|inner| !prefixes.iter().any(|outer| outer != *inner && outer.contains(*inner)))
            .copied()
            .collect();
        let ranges = outer.into_iter().map(Range::of).collect();
        Ok(Self { ranges, first_port: first, ports: u64::from(last - first) + 1 })
    }

    /// How many endpoints it has for flows of this family.
    pub fn capacity(&self, family: Family) -> u64 {
        let addresses = self.ranges.iter().filter(|range| range.family == family).map(|range| range.count);
        addresses.sum::<u64>() * self.ports
    }

    /// Whether the address is one that flows are sent from.
    pub fn contains(&self, address: Address) -> bool {
        let number = u128::from_be_bytes(address.octets());
        self.ranges.iter().any(|range| {
            number.checked_sub(range.first).is_some_and(|offset| offset < u128::from(range.count))
        })
    }

    /// Takes one address out, because it has another use.
    pub(super) fn exclude(&mut self, address: Address) {
        let number = u128::from_be_bytes(address.octets());
        let split = |range: &Range| -> [Range; 2] {
            match number.checked_sub(range.first).and_then(|offset| u64::try_from(offset).ok()) {
                Some(offset) if offset < range.count => [
                    Range { count: offset, ..*range },
                    Range { first: number.saturating_add(1), count: range.count - offset - 1, ..*range },
                ],
                _ => [*range, Range { count: 0, ..*range }],
            }
        };
        self.ranges = self.ranges.iter().flat_map(split).filter(|range| range.count > 0).collect();
        // A local endpoint names its range in 16 bits.
        self.ranges.truncate(1 << 16);
    }

    /// Endpoints of this family in the order in which to try them. See the [module](self).
    pub(super) fn candidates(&self, family: Family, chance: &mut impl Rng) -> Candidates<'_> {
        let capacity = self.capacity(family);
        let mut candidates =
            Candidates { pool: self, family, range: 0, offset: 0, port: 0, left: capacity.min(TRIES) };
        if capacity == 0 {
            return candidates;
        }
        let start = chance.random_range(0..capacity);
        let mut offset = start / self.ports;
        candidates.port = start % self.ports;
        for (number, range) in self.ranges.iter().enumerate().filter(|(_, range)| range.family == family) {
            if offset < range.count {
                (candidates.range, candidates.offset) = (number, offset);
                break;
            }
            offset -= range.count;
        }
        candidates
    }

    /// The endpoint that is meant; `None` in DNAT.
    #[inline]
    pub(super) fn endpoint(&self, local: Local) -> Option<Endpoint> {
        let range = self.ranges.get(usize::from(local.range))?;
        let address = Address::v6(range.first.wrapping_add(u128::from(local.offset)).to_be_bytes());
        (local.port != 0).then_some(Endpoint { address, port: local.port })
    }

    /// Bytes that it takes.
    pub(super) fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<Range>()
    }
}

impl Range {
    fn of(prefix: IpNet) -> Self {
        let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
        let size = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        let (family, skip) = match prefix {
            IpNet::V4(_) if bits > 1 => (Family::V4, (1, 2)),
            IpNet::V6(_) if bits > 1 => (Family::V6, (1, 1)),
            IpNet::V4(_) => (Family::V4, (0, 0)),
            IpNet::V6(_) => (Family::V6, (0, 0)),
        };
        let (before, both) = skip;
        let first = u128::from_be_bytes(Address::from(prefix.network()).octets()) + before;
        let count = (size - both).min(MOST_ADDRESSES);
        Self { family, first, count: u64::try_from(count).unwrap_or(u64::MAX) }
    }
}

/// A local endpoint in six bytes: which range, which address of it, and the port. Port 0 means
/// that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Local {
    range: u16,
    offset: u16,
    pub port: u16,
}

/// Endpoints of one family, in the order in which to try them.
pub(super) struct Candidates<'a> {
    pool: &'a LocalPool,
    family: Family,
    range: usize,
    offset: u64,
    port: u64,
    left: u64,
}

impl Iterator for Candidates<'_> {
    type Item = Local;

    fn next(&mut self) -> Option<Local> {
        self.left = self.left.checked_sub(1)?;
        let pool = self.pool;
        let local = Local {
            range: u16::try_from(self.range).ok()?,
            offset: u16::try_from(self.offset).ok()?,
            port: u16::try_from(self.port).ok()?.checked_add(pool.first_port)?,
        };
        self.port += 1;
        if self.port == pool.ports {
            self.port = 0;
            self.offset += 1;
            if pool.ranges.get(self.range).is_some_and(|range| self.offset == range.count) {
                self.offset = 0;
                let of_family = |number: &usize| pool.ranges[*number].family == self.family;
                let mut after = (self.range + 1..pool.ranges.len()).chain(0..=self.range);
                self.range = after.find(of_family)?;
            }
        }
        Some(local)
    }
}

/// How many flows from the pool go to each backend, by protocol. Never more than there are, so that "used
/// up" is never said too early: counted after a flow's reply key is in the index, and taken off before that leaves it.
pub(super) struct Uses(Box<[[AtomicU32; 2]]>);

impl Uses {
    /// For backends with that many different endpoints.
    pub fn new(endpoints: usize) -> Self {
        Self((0..endpoints).map(|_| <[AtomicU32; 2]>::default()).collect())
    }

    /// Counts one more flow to that endpoint.
    pub fn add(&self, endpoint: u32, protocol: Protocol) {
        if let Some(uses) = self.of(endpoint, protocol) {
            uses.fetch_add(1, Relaxed);
        }
    }

    /// Takes one off again.
    pub fn take_off(&self, endpoint: u32, protocol: Protocol) {
        if let Some(uses) = self.of(endpoint, protocol) {
            uses.fetch_sub(1, Relaxed);
        }
    }

    /// Whether a pool of that capacity has nothing left for it.
    pub fn exhaust(&self, endpoint: u32, protocol: Protocol, capacity: u64) -> bool {
        self.of(endpoint, protocol).is_none_or(|uses| u64::from(uses.load(Relaxed)) >= capacity)
    }

    fn of(&self, endpoint: u32, protocol: Protocol) -> Option<&AtomicU32> {
        let [tcp, udp] = self.0.get(endpoint as usize)?;
        Some(match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
        })
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        size_of_val(&self.0[..])
    }

    /// All flows that are counted.
    #[cfg(test)]
    pub fn total(&self) -> u32 {
        self.0.iter().flatten().map(|uses| uses.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::collections::HashSet;
    use std::net::IpAddr;

    fn pool(prefixes: &[&str], ports: RangeInclusive<u16>) -> LocalPool {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|text| text.parse().unwrap()).collect();
        LocalPool::new(&prefixes, ports).unwrap()
    }

    fn all(pool: &LocalPool, family: Family, seed: u64) -> Vec<Endpoint> {
        let mut chance = StdRng::seed_from_u64(seed);
        pool.candidates(family, &mut chance).map(|local| pool.endpoint(local).unwrap()).collect()
    }

    #[test]
    fn only_addresses_that_a_host_can_have_are_used() {
        for (name, prefixes, want) in [
            ("an IPv4 network", &["192.0.2.8/30"][..], &["192.0.2.9", "192.0.2.10"][..]),
            ("host bits are ignored", &["192.0.2.10/30"], &["192.0.2.9", "192.0.2.10"]),
            ("a point-to-point link", &["192.0.2.8/31"], &["192.0.2.8", "192.0.2.9"]),
            ("one address", &["192.0.2.8/32"], &["192.0.2.8"]),
            ("an IPv6 network", &["2001:db8::/126"], &["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
            ("an IPv6 link", &["2001:db8::/127"], &["2001:db8::", "2001:db8::1"]),
            ("one IPv6 address", &["2001:db8::/128"], &["2001:db8::"]),
            ("a prefix twice", &["192.0.2.8/32", "192.0.2.8/32"], &["192.0.2.8"]),
            ("a prefix in another", &["192.0.2.9/32", "192.0.2.8/30"], &["192.0.2.9", "192.0.2.10"]),
        ] {
            let pool = pool(prefixes, 7..=7);
            let found: HashSet<_> = [Family::V4, Family::V6]
                .into_iter()
                .flat_map(|family| all(&pool, family, 1))
                .map(|endpoint| endpoint.address)
                .collect();
            let want: HashSet<_> =
                want.iter().map(|text| text.parse::<IpAddr>().unwrap().into()).collect::<HashSet<Address>>();
            assert_eq!(found, want, "{name}");
        }
    }

    #[test]
    fn a_small_pool_is_swept_whole_from_a_random_start() {
        let pool = pool(&["192.0.2.0/30", "198.51.100.1/32", "2001:db8::/127"], 1000..=1099);
        assert_eq!((pool.capacity(Family::V4), pool.capacity(Family::V6)), (300, 200));
        let mut starts = HashSet::new();
        for seed in 0..50 {
            let tried = all(&pool, Family::V4, seed);
            assert_eq!((tried.len(), tried.iter().collect::<HashSet<_>>().len()), (300, 300));
            assert!(tried.iter().all(|endpoint| endpoint.address.family() == Family::V4));
            starts.insert(tried[0]);
            assert_eq!(all(&pool, Family::V6, seed).into_iter().collect::<HashSet<_>>().len(), 200);
        }
        assert!(starts.len() > 40, "{starts:?}");
    }

    #[test]
    fn a_large_pool_is_tried_so_often_and_a_huge_one_has_so_many_addresses() {
        let pool = pool(&["10.0.0.0/8", "2001:db8::/32"], LocalPool::DEFAULT_PORTS);
        for family in [Family::V4, Family::V6] {
            assert_eq!(pool.capacity(family), 65_536 * 64_512);
            assert_eq!(all(&pool, family, 9).into_iter().collect::<HashSet<_>>().len(), 1024);
        }
    }

    #[test]
    fn an_excluded_address_is_never_tried() {
        let mut pool = pool(&["192.0.2.0/29"], 5..=6);
        for text in ["192.0.2.3", "192.0.2.1", "192.0.2.6", "192.0.2.7", "203.0.113.1", "2001:db8::1"] {
            pool.exclude(text.parse::<IpAddr>().unwrap().into());
        }
        let found: HashSet<String> = all(&pool, Family::V4, 4).iter().map(ToString::to_string).collect();
        let want = ["2:5", "2:6", "4:5", "4:6", "5:5", "5:6"].map(|end| format!("192.0.2.{end}"));
        assert_eq!(found, want.into_iter().collect());
        assert_eq!(pool.capacity(Family::V4), 6);
    }

    #[test]
    fn a_pool_without_ports_or_with_port_zero_is_refused() {
        let empty = RangeInclusive::new(20, 10);
        assert_eq!(LocalPool::new(&[], empty).unwrap_err(), PoolError::NoPorts { first: 20, last: 10 });
        assert_eq!(LocalPool::new(&[], 0..=10).unwrap_err(), PoolError::PortZero);
        assert!(all(&LocalPool::new(&[], 1..=1).unwrap(), Family::V4, 1).is_empty());
    }
}
