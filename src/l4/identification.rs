//! Identifications for packets that may be cut or are cut, unlike those of any other worker.
//!
//! All workers send from the same addresses, and a receiver puts pieces together by addresses, protocol
//! and identification. Two datagrams with one identification on their way at once would be mixed (RFC 6864
//! §5.3.1). So the 16 bits that IPv4 has are shared out, a run of them to each worker, which goes through its own
//! again and again:
//!
//! ```text
//!   low 16 bits    ├──── worker 0 ────┼──── worker 1 ────┼──── worker 2 ────┤
//!   high 16 bits   the round, for IPv6
//! ```
//!
//! Runs, and not every third number, because whoever cuts a large segment numbers its parts one by one from the
//! identification that the segment was given. They must all be the same worker's.

use super::Setup;
use crate::datapath::WorkerId;

/// How many identifications IPv4 has.
const ALL: u32 = 1 << 16;

/// One worker's identifications.
#[derive(Debug)]
pub(super) struct Identifications {
    first: u32,
    count: u32,
    /// The next one, counted from the first; no more than `count`.
    next: u32,
    round: u16,
}

impl Identifications {
    pub fn new(setup: &Setup, worker: WorkerId) -> Self {
        let count = ALL / u32::from(setup.workers.max(1));
        let [high, low] = [setup.seed >> 16, setup.seed].map(|part| (part & 0xffff) as u16);
        let first = u32::from(worker.0).saturating_mul(count) % ALL;
        Self { first, count, next: u32::from(low) % count, round: high }
    }

    /// One for a packet that will be cut into `parts` segments, which are numbered from it on. Where there are more
    /// parts than one worker has identifications it begins at the first, and the rest are other workers'.
    pub fn take(&mut self, parts: u32) -> u32 {
        let parts = parts.max(1);
        if self.next.saturating_add(parts) > self.count {
            self.next = 0;
            self.round = self.round.wrapping_add(1);
        }
        let taken = u32::from(self.round) << 16 | (self.first + self.next);
        self.next = self.next.saturating_add(parts).min(self.count);
        taken
    }
}
