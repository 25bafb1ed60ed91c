//! How many connections clients have, in all and from each source; shared by all workers.
//!
//! A source is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one address of a /64 has all of them.
//! Sources are remembered as long as they have connections, so that there are never more of them than of those.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;

use super::front::Cut;
use super::spec::ClientLimits;
use crate::packet::Address;

/// In how many parts sources are kept, so that workers seldom meet at one.
const PARTS: usize = 64;

/// How many sessions there may be.
#[derive(Clone, Debug)]
pub struct SessionLimit(Arc<Rooms>);

#[derive(Debug)]
struct Rooms {
    limits: ClientLimits,
    taken: AtomicUsize,
    sources: Box<[Mutex<HashMap<Source, usize, RandomState>>]>,
    hash: RandomState,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl From<Address> for Source {
    fn from(address: Address) -> Self {
        match IpAddr::from(address) {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl SessionLimit {
    /// At most so many.
    pub fn new(limits: ClientLimits) -> Self {
        let hash = RandomState::default();
        let sources = (0..PARTS).map(|_| Mutex::new(HashMap::with_hasher(hash.clone())));
        Self(Arc::new(Rooms { limits, taken: AtomicUsize::new(0), sources: sources.collect(), hash }))
    }

    /// A place for a session of this client.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(&self, client: Address) -> Result<Place, Cut> {
        let rooms = &self.0;
        let source = Source::from(client);
        {
            let mut sources = rooms.part(source);
            let count = sources.entry(source).or_insert(0);
            if *count >= rooms.limits.per_source {
                return Err(Cut::TooManyFromSource);
            }
            *count += 1;
        }
        // From here on it is given back, whatever happens.
        let mut place = Place { rooms: Arc::clone(rooms), source, counted: false };
        let room = |taken| (taken < rooms.limits.connections).then_some(taken + 1);
        place.counted = rooms.taken.try_update(Relaxed, Relaxed, room).is_ok();
        if place.counted { Ok(place) } else { Err(Cut::TooManyConnections) }
    }
}

impl Rooms {
    fn part(&self, source: Source) -> MutexGuard<'_, HashMap<Source, usize, RandomState>> {
        let place = usize::try_from(self.hash.hash_one(source) % PARTS as u64).unwrap_or_default();
        // Places are below the number of parts, of which there is at least one.
        let part = self.sources.get(place).or(self.sources.first()).expect("there are parts");
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place.
#[derive(Debug)]
pub struct Place {
    rooms: Arc<Rooms>,
    source: Source,
    /// Whether it counts among all of them.
    counted: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.counted {
            self.rooms.taken.fetch_sub(1, Relaxed);
        }
        let mut sources = self.rooms.part(self.source);
        if let Some(count) = sources.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_source_has_no_more_than_its_share_and_all_have_no_more_than_there_are() {
        let limit = SessionLimit::new(ClientLimits { connections: 4, per_source: 2 });
        let take = |text| limit.take(address(text));
        let one = take("198.51.100.1").unwrap();
        let _two = take("198.51.100.1").unwrap();
        assert_eq!(take("198.51.100.1").unwrap_err(), Cut::TooManyFromSource);
        let _three = take("2001:db8::1").unwrap();
        let four = take("2001:db8::ffff").unwrap();
        assert_eq!(take("2001:db8:0:0:1::1").unwrap_err(), Cut::TooManyFromSource);
        assert_eq!(take("2001:db8:0:1::1").unwrap_err(), Cut::TooManyConnections);
        drop(one);
        drop(four);
        drop(take("198.51.100.1").unwrap());
        drop(take("2001:db8:0:1::1").unwrap());
    }

    #[test]
    fn nothing_is_remembered_of_sources_without_connections() {
        let limit = SessionLimit::new(ClientLimits { connections: 1, per_source: 1 });
        let held = limit.take(address("198.51.100.1")).unwrap();
        for last in 0..200u8 {
            assert!(limit.take(Address::v4([192, 0, 2, last])).is_err());
        }
        drop(held);
        assert!(limit.0.sources.iter().all(|part| part.lock().unwrap().is_empty()));
        assert_eq!(limit.0.taken.load(Relaxed), 0);
    }
}
