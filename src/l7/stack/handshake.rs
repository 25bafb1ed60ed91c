//! Handshakes that are under way, and the numbers that they begin with.
//!
//! A SYN costs the sender nothing and can lie about where it comes from, so what it may cost
//! here is bounded: a small record while there is room, for each client and for all
//! together, and past that nothing at all. Then the SYN-ACK's own sequence number says
//! what must be remembered, and the ACK brings it back (RFC 4987 §3.6):
//!
//! ```text
//!    31 30   29 … 27   26 25   24 … 0
//!   │ time │   MSS   │ scale │ keyed hash of the tuple, the client's number and the rest │
//! ```
//!
//! A cookie is not sent again if the SYN-ACK is lost, forgets selective acknowledgements, and
//! rounds the segment size and the window scale *down*, which is always safe.
//!
//! Other initial numbers follow RFC 6528: a clock of four microseconds plus a keyed hash of the
//! tuple, so that they only grow for one tuple, and tell nothing about those of another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::segment::Offer;
use super::sequence::Sequence;
use super::timers::TimerId;
use crate::datapath::Instant;
use crate::packet::FiveTuple;

/// How often a SYN-ACK is sent again: after 1, 2 and 4 seconds; the handshake is over 8
/// seconds after the last.
pub(super) const RESENDS: u8 = 3;

/// A handshake that waits for the client's ACK.
#[derive(Clone, Copy, Debug)]
pub(super) struct HalfOpen {
    pub(super) tuple: FiveTuple,
    /// The client's initial number, and ours.
    pub(super) theirs: Sequence,
    pub(super) ours: Sequence,
    pub(super) offer: Offer,
    /// When the SYN-ACK left last, and how often it did before.
    pub(super) sent_at: Instant,
    pub(super) resends: u8,
    pub(super) timer: TimerId,
}

impl HalfOpen {
    /// How long to wait after the SYN-ACK that left last (RFC 6298 §2.1, §5.5).
    pub(super) fn patience(resends: u8) -> Duration {
        Duration::from_secs(1 << resends.min(RESENDS))
    }
}

/// Segment sizes that a cookie can tell: common ones, in ascending order.
const COOKIE_MSS: [u16; 8] = [48, 536, 1024, 1220, 1360, 1440, 1460, 8900];

/// Window scales that a cookie can tell, and none at all, which is the first.
const COOKIE_SCALE: [Option<u8>; 4] = [None, Some(2), Some(6), Some(7)];

/// The hash bits of a cookie.
const COOKIE_HASH: u32 = (1 << 25) - 1;

/// Seconds of one tick of a cookie's clock. A cookie holds for this tick and the next.
const COOKIE_TICK: u64 = 64;

/// Where initial sequence numbers come from. The same secret in each worker, so that any
/// of them could read a cookie of another.
#[derive(Clone)]
pub(super) struct Numbers {
    secret: [u8; 32],
}

impl Numbers {
    pub(super) const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The initial number of a connection that is remembered.
    pub(super) fn initial(&self, now: Instant, tuple: &FiveTuple) -> Sequence {
        #[expect(clippy::cast_possible_truncation, reason = "a clock of 32 bits, which wraps")]
        let clock = (now.as_nanos() / 4000) as u32;
        Sequence(clock.wrapping_add(self.hash(&(0u8, tuple))))
    }

    /// An initial number that holds what must be remembered, and the offer as it was rounded.
    pub(super) fn cookie(
        &self,
        now: Instant,
        tuple: &FiveTuple,
        theirs: Sequence,
        offer: Offer,
    ) -> (Sequence, Offer) {
        let below = |at: usize| at.saturating_sub(1);
        let mss = below(COOKIE_MSS.partition_point(|&mss| mss <= offer.mss));
        let scale = offer.scale.map_or(0, |scale| {
            below(COOKIE_SCALE.partition_point(|&known| known.is_none_or(|known| known <= scale)))
        });
        #[expect(clippy::cast_possible_truncation, reason = "two bits of time, three and two of indices")]
        let head = ((tick(now) & 3) as u32) << 30 | (mss as u32) << 27 | (scale as u32) << 25;
        let rounded = Offer { mss: COOKIE_MSS[mss], scale: COOKIE_SCALE[scale], sack: false };
        (Sequence(head | self.seal(tick(now), tuple, theirs, head)), rounded)
    }

    /// What a cookie says, if it is one of ours for this client and not too old.
    pub(super) fn open_cookie(
        &self,
        now: Instant,
        tuple: &FiveTuple,
        theirs: Sequence,
        cookie: Sequence,
    ) -> Option<Offer> {
        let head = cookie.0 & !COOKIE_HASH;
        let tick = [tick(now), tick(now).checked_sub(1)?]
            .into_iter()
            .find(|tick| tick & 3 == u64::from(cookie.0 >> 30))?;
        let offer = Offer {
            mss: *COOKIE_MSS.get((cookie.0 >> 27 & 7) as usize)?,
            scale: *COOKIE_SCALE.get((cookie.0 >> 25 & 3) as usize)?,
            sack: false,
        };
        (self.seal(tick, tuple, theirs, head) == cookie.0 & COOKIE_HASH).then_some(offer)
    }

    fn seal(&self, tick: u64, tuple: &FiveTuple, theirs: Sequence, head: u32) -> u32 {
        self.hash(&(1u8, tick, tuple, theirs, head)) & COOKIE_HASH
    }

    /// `SipHash` with the secret in front: all inputs have one length, so that none can be
    /// made longer, and no more than half of the result is shown.
    #[expect(clippy::cast_possible_truncation, reason = "half of the hash is what is wanted")]
    fn hash(&self, input: &impl Hash) -> u32 {
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        input.hash(&mut hasher);
        hasher.finish() as u32
    }
}

/// The clock of cookies. It starts at one, so that there is one before.
const fn tick(now: Instant) -> u64 {
    now.as_nanos() / (COOKIE_TICK * 1_000_000_000) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;
    use std::net::SocketAddr;

    fn tuple(port: u16) -> FiveTuple {
        FiveTuple {
            protocol: Protocol::Tcp,
            source: SocketAddr::from(([198, 51, 100, 1], port)).into(),
            destination: SocketAddr::from(([203, 0, 113, 1], 80)).into(),
        }
    }

    #[test]
    fn a_cookie_brings_back_no_more_than_was_offered() {
        let numbers = Numbers::new([7; 32]);
        let now = Instant::START + Duration::from_secs(1000);
        for mss in [48, 500, 536, 1400, 1460, 9000, 65_000] {
            for scale in [None, Some(0), Some(3), Some(7), Some(14)] {
                let offer = Offer { mss, scale, sack: true };
                let (cookie, told) = numbers.cookie(now, &tuple(4000), Sequence(5), offer);
                let later = now + Duration::from_mins(1);
                let back = numbers.open_cookie(later, &tuple(4000), Sequence(5), cookie).unwrap();
                assert_eq!(back, told, "{offer:?}");
                assert!(back.mss <= mss && back.scale <= scale, "{offer:?} became {back:?}");
            }
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_client_its_time_and_its_bits_only() {
        let numbers = Numbers::new([7; 32]);
        let now = Instant::START;
        let offer = Offer { mss: 1460, scale: Some(7), sack: true };
        let (cookie, _) = numbers.cookie(now, &tuple(4000), Sequence(5), offer);
        let open = |tuple, theirs, cookie, at| numbers.open_cookie(at, &tuple, theirs, cookie);
        assert!(open(tuple(4000), Sequence(5), cookie, now).is_some());
        assert!(open(tuple(4001), Sequence(5), cookie, now).is_none());
        assert!(open(tuple(4000), Sequence(6), cookie, now).is_none());
        assert!(open(tuple(4000), Sequence(5), cookie, now + Duration::from_secs(128)).is_none());
        for bit in 0..32 {
            assert!(
                open(tuple(4000), Sequence(5), Sequence(cookie.0 ^ 1 << bit), now).is_none(),
                "bit {bit}"
            );
        }
    }

    #[test] // RFC 6528 §3
    fn initial_numbers_grow_for_one_tuple_and_tell_nothing_about_another() {
        let numbers = Numbers::new([7; 32]);
        let later = Instant::START + Duration::from_secs(1);
        let [first, second] = [Instant::START, later].map(|at| numbers.initial(at, &tuple(4000)));
        assert_eq!(second.since(first), 250_000);
        assert_ne!(numbers.initial(later, &tuple(4001)).since(second), 0);
        assert_ne!(Numbers::new([8; 32]).initial(later, &tuple(4000)), second);
    }
}
