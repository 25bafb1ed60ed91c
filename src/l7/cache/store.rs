//! The store: what is kept under which name, and which fetches are on their way; shared by all workers.
//!
//! ```text
//!   what was asked for ──hash──▶ shard ──▶ resource ──▶ variants, the newest first
//!                                   └────▶ flights
//! ```
//!
//! A shard's lock is held for a look or a change, never while something is awaited or another shard is locked. Two names
//! with the same hash cannot both be kept; they are told apart by their text, so neither is taken for the other.
//!
//! Room is made by throwing out what was used least recently, shard by shard. One who needs room throws out as much as he
//! needs and no more: where that is still being read, and so not free, he goes without.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;
use http::header::RANGE;
use http::{HeaderMap, Uri};
use lru::LruCache;
use tokio::sync::watch;

use super::budget::{Budget, Charge};
use super::clock::{Clock, Moment};
use super::counters::CacheCounters;
use super::directives::OfRequest;
use super::entry::{ENTRY, Place, Stored};
use super::flight::{Flight, Phase, Sharing};
use super::rules::Use;
use super::status::{Detail, Handling};
use super::{validate, vary};
use crate::l7::spec::{CacheSpec, GroupId};

/// A power of two, and more than there are workers.
const SHARDS: usize = 32;

/// Variants of one resource. One with more is varied by something that no two clients share.
const MOST_VARIANTS: usize = 64;

/// How long it is remembered that a resource's answers are not for others. Meanwhile nobody waits for somebody else's.
const LONE: Duration = Duration::from_secs(60);

/// Answers that are kept.
#[derive(Debug)]
pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    hasher: FixedState,
    budget: Arc<Budget>,
    pub(super) clock: Clock,
    pub(super) spec: CacheSpec,
    pub(super) counters: CacheCounters,
    /// Which shard something is thrown out of next.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    resources: LruCache<u64, Resource, FixedState>,
    flights: HashMap<u64, Vec<Arc<Flight>>, FixedState>,
}

/// All that is kept under one name.
#[derive(Debug)]
struct Resource {
    key: Box<str>,
    variants: Vec<Stored>,
    lone_until: Moment,
    /// Of the name, where no variant is charged for it.
    _charge: Option<Charge>,
}

/// What is asked of the store.
pub(super) struct Query<'a> {
    pub hash: u64,
    pub asked: &'a Uri,
    pub group: GroupId,
    /// What the backend is to be asked for.
    pub sent: &'a Uri,
    pub headers: &'a HeaderMap,
    pub wish: &'a OfRequest,
    pub now: Moment,
}

/// Who is to fetch what is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Whoever is on the way already, or else the one that asks.
    Together,
    /// The one that asks.
    Alone,
    /// Nobody.
    Never,
}

/// What the store has.
pub(super) enum Found {
    /// This may be given. `refresh` is to be fetched behind the client's back.
    Usable { stored: Stored, detail: Option<Detail>, refresh: Option<Arc<Flight>> },
    /// Nothing that may be given without asking a backend. What is stored can perhaps be validated.
    Missing { stored: Option<Stored>, handling: Handling, detail: Option<Detail>, flight: Option<Ticket> },
}

/// A place among those who wait for a fetch.
pub(super) struct Ticket {
    pub wait: watch::Receiver<Phase>,
    /// Whose fetch it is: this is to be done by whoever holds it.
    pub own: Option<Arc<Flight>>,
}

impl Cache {
    /// An empty cache. `seed` makes hashes unpredictable.
    pub fn new(spec: CacheSpec, clock: Clock, seed: u64) -> Arc<Self> {
        let shard = || {
            Mutex::new(Shard {
                resources: LruCache::unbounded_with_hasher(FixedState::default()),
                flights: HashMap::default(),
            })
        };
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: FixedState::with_seed(seed),
            budget: Budget::new(spec.max_bytes),
            clock,
            spec,
            counters: CacheCounters::default(),
            turn: AtomicUsize::new(0),
        })
    }

    /// What has been counted.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// How many bytes are held, and how many may be.
    pub fn bytes(&self) -> (usize, usize) {
        (self.budget.held(), self.budget.most())
    }

    /// Forgets what is kept under this name, given as [`Exchange::asked`](crate::l7::exchange::Exchange::asked) has it: how many
    /// variants that were.
    pub fn purge(&self, asked: &Uri) -> usize {
        let gone = self.drop_named(asked);
        self.counters.count_purged(gone);
        gone
    }

    /// Forgets all whose name, as in `https://example.com/a?b`, begins with this.
    pub fn purge_below(&self, prefix: &str) -> usize {
        let mut gone = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let names = shard.resources.iter().filter(|(_, resource)| resource.key.starts_with(prefix));
            let hashes: Vec<u64> = names.map(|(hash, _)| *hash).collect();
            let resources: Vec<_> = hashes.iter().filter_map(|hash| shard.resources.pop(hash)).collect();
            for flight in shard.flights.values().flatten().filter(|flight| flight.key.starts_with(prefix)) {
                flight.doom();
            }
            drop(shard);
            gone += resources.iter().map(|resource| resource.variants.len()).sum::<usize>();
        }
        self.counters.count_purged(gone);
        gone
    }

    /// RFC 9111 §4.4.
    pub(super) fn invalidate(&self, asked: &Uri) {
        let gone = self.drop_named(asked);
        self.counters.count_invalidated(gone);
    }

    fn drop_named(&self, asked: &Uri) -> usize {
        let hash = self.hash(asked);
        let mut shard = self.shard(hash);
        for flight in shard.flights.get(&hash).into_iter().flatten().filter(|flight| is(&flight.key, asked)) {
            flight.doom();
        }
        let named = shard.resources.peek(&hash).is_some_and(|resource| is(&resource.key, asked));
        let resource = named.then(|| shard.resources.pop(&hash)).flatten();
        drop(shard);
        resource.map_or(0, |resource| resource.variants.len())
    }

    pub(super) fn hash(&self, asked: &Uri) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(asked.scheme_str().unwrap_or_default().as_bytes());
        hasher.write(asked.authority().map_or("", http::uri::Authority::as_str).as_bytes());
        hasher.write(asked.path_and_query().map_or("", http::uri::PathAndQuery::as_str).as_bytes());
        hasher.finish()
    }

    /// Looks for something to give, and for a fetch to wait for where there is nothing.
    pub(super) fn find(&self, query: &Query<'_>, fetch: Fetch) -> Found {
        let mut shard = self.shard(query.hash);
        let shard = &mut *shard;
        let resource = shard.resources.get(&query.hash).filter(|resource| is(&resource.key, query.asked));
        let variants = resource.map(|resource| resource.variants.as_slice()).unwrap_or_default();
        let stored = variants.iter().find(|stored| {
            stored.head.place.is(query.group, query.sent)
                && vary::agrees(&stored.head.selecting, query.headers)
        });
        let lone = resource.is_some_and(|resource| resource.lone_until > query.now);
        let (handling, detail) = match stored.map(|stored| stored.head.policy.decide(query.wish, query.now)) {
            None if variants.is_empty() => (Handling::UriMiss, None),
            None => (Handling::VaryMiss, None),
            Some(Use::Validate(handling, detail)) => (handling, detail),
            Some(Use::Fresh) => {
                return Found::Usable {
                    stored: stored.expect("it was decided on").clone(),
                    detail: None,
                    refresh: None,
                };
            }
            Some(Use::Stale(detail)) => {
                let stored = stored.expect("it was decided on").clone();
                let refresh = if detail == Detail::StaleWhileRevalidate {
                    let (_, own) = shard.join(query, &variants_known(Some(&stored)), Fetch::Together);
                    own
                } else {
                    None
                };
                return Found::Usable { stored, detail: Some(detail), refresh };
            }
        };
        let stored = stored.cloned();
        let own_conditions = stored.is_none() && validate::is_conditional(query.headers);
        let fetch = match fetch {
            // A part of what is not there is the backend's business.
            Fetch::Together if stored.is_none() && query.headers.contains_key(RANGE) => Fetch::Never,
            // Who wants something newer gets what he asked for, not what others asked for before; who has something already is
            // told 304, which is not for others.
            Fetch::Together if lone || handling == Handling::Request || own_conditions => Fetch::Alone,
            fetch => fetch,
        };
        let known = resource.and_then(|resource| resource.variants.first().cloned());
        let flight = (fetch != Fetch::Never).then(|| {
            let (wait, own) = shard.join(query, &variants_known(known.as_ref()), fetch);
            Ticket { wait, own }
        });
        Found::Missing { stored, handling, detail, flight }
    }

    /// Takes room for so many bytes, and makes it where there is none.
    pub(super) fn charge(&self, bytes: usize) -> Option<Charge> {
        let mut freed = 0;
        loop {
            if let Some(charge) = self.budget.take(bytes) {
                return Some(charge);
            }
            if freed >= bytes || bytes > self.budget.most() {
                return None;
            }
            freed += self.evict()?;
        }
    }

    /// Throws something out; how many bytes that may set free.
    fn evict(&self) -> Option<usize> {
        for _ in 0..SHARDS {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let popped = self.shards.get(turn).and_then(|shard| lock(shard).resources.pop_lru());
            if let Some((_, resource)) = popped {
                self.counters.count_evicted(resource.variants.len());
                let bytes: usize = resource.variants.iter().map(Stored::bytes).sum();
                return Some(bytes + ENTRY);
            }
        }
        None
    }

    /// Keeps what a flight has brought; `false` where it is outdated already.
    pub(super) fn insert(&self, flight: &Flight, stored: Stored) -> bool {
        let mut shard = self.shard(flight.hash);
        if flight.is_doomed() {
            return false;
        }
        let outdated;
        match shard.resources.get_mut(&flight.hash) {
            Some(resource) if resource.key == flight.key => {
                let same = |old: &mut Stored| {
                    old.head.place == stored.head.place && vary::agrees(&old.head.selecting, &flight.request)
                };
                outdated = resource.variants.extract_if(.., same).collect::<Vec<_>>();
                resource.variants.truncate(MOST_VARIANTS - 1);
                resource.variants.insert(0, stored);
                resource.lone_until = Moment::ZERO;
            }
            _ => {
                let resource = Resource {
                    key: flight.key.clone(),
                    variants: vec![stored],
                    lone_until: Moment::ZERO,
                    _charge: None,
                };
                let other = shard.resources.push(flight.hash, resource);
                outdated = other.into_iter().flat_map(|(_, resource)| resource.variants).collect();
            }
        }
        drop(shard);
        drop(outdated);
        self.counters.count_stored();
        true
    }

    /// Forgets one variant, if it is still the same.
    pub(super) fn remove(&self, flight: &Flight, stored: &Stored) {
        let mut shard = self.shard(flight.hash);
        let Some(resource) = shard.resources.peek_mut(&flight.hash) else { return };
        let gone =
            resource.variants.extract_if(.., |old| Arc::ptr_eq(&old.head, &stored.head)).collect::<Vec<_>>();
        if resource.variants.is_empty() {
            shard.resources.pop(&flight.hash);
        }
        drop(shard);
        drop(gone);
    }

    /// Remembers that answers under this name are not for others.
    pub(super) fn remember_lone(&self, flight: &Flight, now: Moment) {
        let lone_until = now.saturating_add(LONE);
        // Made beforehand: it may throw something out of the same shard.
        let Some(charge) = self.charge(ENTRY + flight.key.len()) else { return };
        let mut shard = self.shard(flight.hash);
        let resource = shard.resources.get_mut(&flight.hash);
        if let Some(resource) = resource.filter(|resource| resource.key == flight.key) {
            resource.lone_until = lone_until;
            return;
        }
        let resource =
            Resource { key: flight.key.clone(), variants: Vec::new(), lone_until, _charge: Some(charge) };
        let other = shard.resources.push(flight.hash, resource);
        drop(shard);
        drop(other);
    }

    /// Takes a flight off the list: nobody joins it from now on.
    pub(super) fn land(&self, flight: &Arc<Flight>) {
        self.shard(flight.hash).land(flight);
    }

    /// Takes a flight that nobody waits for off the list; `false` where somebody does, after all.
    pub(super) fn land_deserted(&self, flight: &Arc<Flight>) -> bool {
        let mut shard = self.shard(flight.hash);
        let deserted = !flight.has_waiters();
        if deserted {
            shard.land(flight);
        }
        deserted
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        let place = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        lock(self.shards.get(place).expect("a remainder is smaller"))
    }
}

/// The fields that answers are known to vary by.
fn variants_known(known: Option<&Stored>) -> vary::Selecting {
    known.map(|stored| stored.head.selecting.clone()).unwrap_or_default()
}

impl Shard {
    /// Finds a flight to wait for, or makes one, which is to be done by whoever asks.
    fn join(
        &mut self,
        query: &Query<'_>,
        known: &vary::Selecting,
        fetch: Fetch,
    ) -> (watch::Receiver<Phase>, Option<Arc<Flight>>) {
        let flights = self.flights.entry(query.hash).or_default();
        if fetch == Fetch::Together {
            let fits = |flight: &&Arc<Flight>| {
                flight.sharing == Sharing::Open
                    && !flight.is_doomed()
                    && is(&flight.key, query.asked)
                    && flight.place.is(query.group, query.sent)
                    && match flight.phase() {
                        Phase::Fetching => vary::agree(&flight.request, query.headers, known),
                        Phase::Given(given) => vary::agrees(&given.head.selecting, query.headers),
                        Phase::Declined(_) | Phase::Refused(_) | Phase::Failed(_) => false,
                    }
            };
            if let Some(flight) = flights.iter().find(fits) {
                return (flight.join(), None);
            }
        }
        let sharing = if fetch == Fetch::Together { Sharing::Open } else { Sharing::Alone };
        let place = Place::of(query.group, query.sent);
        let flight =
            Flight::new(query.hash, query.asked.to_string().into(), place, query.headers.clone(), sharing);
        flights.push(Arc::clone(&flight));
        (flight.join(), Some(flight))
    }

    fn land(&mut self, flight: &Arc<Flight>) {
        if let Some(flights) = self.flights.get_mut(&flight.hash) {
            flights.retain(|other| !Arc::ptr_eq(other, flight));
            if flights.is_empty() {
                self.flights.remove(&flight.hash);
            }
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a name is that of what was asked for; as [`Uri`] writes it, without writing it.
fn is(key: &str, asked: &Uri) -> bool {
    let rest = key.strip_prefix(asked.scheme_str().unwrap_or_default());
    let rest = rest.and_then(|rest| rest.strip_prefix("://"));
    let rest = rest.and_then(|rest| rest.strip_prefix(asked.authority()?.as_str()));
    rest == asked.path_and_query().map(http::uri::PathAndQuery::as_str)
}
