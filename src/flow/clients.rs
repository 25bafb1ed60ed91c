//! How many flows each client has, in memory that does not grow with the number of clients.
//!
//! A client is an IPv4 address or an IPv6 /64 network, since whoever has one address of a /64 has them all.
//! It has one counter in each of two rows, found by the two halves of a keyed hash, and its flows are counted in
//! both (a count-min sketch). The smaller of the two is never less than the true number; it is more by the
//! flows of those clients that share *both* counters.
//!
//! So a collision can refuse a client early, never late. A row has a counter for every two flows
//! of the table, so even in a full table a counter holds but two foreign flows on average; limits
//! of some dozens and more are as good as exact, and only a limit of a few flows would be felt
//! to be too strict. The hash is keyed by the seed, so nobody can aim at another client's counters.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::packet::{Address, Family};

/// The counters. See the [module](self).
pub(super) struct Clients {
    rows: [Box<[AtomicU32]>; 2],
    limit: u32,
    seed: u64,
    shared_seed: SharedSeed,
}

impl Clients {
    /// Counters for a table of `flows` flows, of which a client may have `limit`.
    pub fn new(flows: u32, limit: u32, seed: u64) -> Self {
        let counters = (flows / 2).next_power_of_two().max(64);
        let row = || (0..counters).map(|_| AtomicU32::new(0)).collect();
        Self { rows: [row(), row()], limit, seed: !seed, shared_seed: SharedSeed::from_u64(!seed) }
    }

    /// Counts one more flow of `client`, unless it has as many as it may have. Several workers that count the
    /// same client at the same moment may all be refused its last flow; no more than the limit ever get in.
    pub fn enter(&self, client: Address) -> bool {
        let counters = self.counters(client);
        let [before, also] = counters.map(|counter| counter.fetch_add(1, Relaxed));
        if before.min(also) < self.limit {
            return true;
        }
        self.leave(client);
        false
    }

    /// Takes one off again.
    pub fn leave(&self, client: Address) {
        for counter in self.counters(client) {
            counter.fetch_sub(1, Relaxed);
        }
    }

    /// Whether two addresses are one client.
    pub fn same(one: Address, other: Address) -> bool {
        let network = |address: Address| u128::from_be_bytes(address.octets()) >> 64;
        match (one.family(), other.family()) {
            (Family::V4, Family::V4) => one == other,
            (Family::V6, Family::V6) => network(one) == network(other),
            (Family::V4, Family::V6) | (Family::V6, Family::V4) => false,
        }
    }

    fn counters(&self, client: Address) -> [&AtomicU32; 2] {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        let [network @ .., _, _, _, _, _, _, _, _] = client.octets();
        hasher.write_u64(u64::from_le_bytes(network));
        hasher.write_u32(match client.family() {
            Family::V4 => u32::from_le_bytes(client.v4_octets()),
            Family::V6 => 0,
        });
        let hash = hasher.finish();
        let [low, high] = &self.rows;
        let place = |half: u64| (half & 0xffff_ffff) as usize;
        [&low[place(hash) % low.len()], &high[place(hash >> 32) % high.len()]]
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        self.rows.iter().map(|row| size_of_val(&row[..])).sum()
    }

    /// How many flows are counted in all, by each row.
    #[cfg(test)]
    pub fn totals(&self) -> [u64; 2] {
        let sum = |row: &[AtomicU32]| row.iter().map(|counter| u64::from(counter.load(Relaxed))).sum();
        [sum(&self.rows[0]), sum(&self.rows[1])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_client_gets_its_limit_and_no_more() {
        let clients = Clients::new(1000, 10, 1);
        let client = address("198.51.100.1");
        assert_eq!((0..20).filter(|_| clients.enter(client)).count(), 10);
        clients.leave(client);
        assert!(clients.enter(client) && !clients.enter(client));
        assert!(clients.enter(address("198.51.100.2")), "another client is not touched");
        assert_eq!(clients.totals(), [11, 11]);
    }

    #[test]
    fn addresses_of_one_network_of_64_bits_are_one_client() {
        let clients = Clients::new(1000, 1, 2);
        assert!(clients.enter(address("2001:db8::1")));
        assert!(!clients.enter(address("2001:db8::ffff:1")));
        assert!(clients.enter(address("2001:db8:0:1::1")));
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("198.51.100.1", "198.51.100.1", true),
            ("198.51.100.1", "198.51.100.2", false),
            ("198.51.100.1", "2001:db8::1", false),
        ] {
            assert_eq!(Clients::same(address(one), address(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn a_full_table_of_single_flows_refuses_hardly_anybody_and_empties_to_zero() {
        let flows = 100_000u32;
        let clients = Clients::new(flows, 16, 3);
        let of = |number: u32| Address::v4(number.to_be_bytes());
        let refused: Vec<u32> = (0..flows).filter(|number| !clients.enter(of(*number))).collect();
        assert!(refused.is_empty(), "{refused:?}");
        (0..flows).for_each(|number| clients.leave(of(number)));
        assert_eq!(clients.totals(), [0, 0]);
    }
}
