//! Identifications for packets that may be cut or are cut, unlike those of any other worker.
//!
//! All workers send from the same addresses, and a receiver puts pieces together by addresses, protocol
//! and identification. Two datagrams with one identification on their way at once would be mixed (RFC 6864
//! §5.3.1). So each worker counts in steps of a power of two that is no less than the number of workers,
//! from a start of its own: as the step divides 2^16, the workers' numbers stay apart in IPv4's 16 bits as well.

use super::Setup;
use crate::datapath::WorkerId;

/// One worker's identifications.
#[derive(Debug)]
pub(super) struct Identifications {
    next: u32,
    step: u32,
}

impl Identifications {
    pub fn new(setup: &Setup, worker: WorkerId) -> Self {
        let step = u32::from(setup.workers.max(1)).next_power_of_two();
        #[expect(clippy::cast_possible_truncation, reason = "any start will do that all workers share")]
        let start = setup.seed as u32 & !(step - 1);
        Self { next: start | (u32::from(worker.0) & (step - 1)), step }
    }

    /// One for a packet that will be cut into `parts` segments, which are numbered from it on.
    pub fn take(&mut self, parts: u32) -> u32 {
        let taken = self.next;
        self.next = taken.wrapping_add(parts.max(1).wrapping_mul(self.step));
        taken
    }
}
