//! The Internet checksum (RFC 1071), and how to change what it covers without summing again.
//!
//! One's-complement sums do not care about byte order as long as it is always the same one
//! (RFC 1071 §2B); here every 16-bit word is a big-endian `u16`, as on the wire.
//!
//! A NAT must not compute a checksum anew: it would bless a packet that was damaged before it
//! came here. It carries its own changes into the sum it finds, so that a wrong sum stays wrong.

/// What a rewriting changes about a one's-complement sum: the words that went and came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u32);

impl Change {
    /// One 16-bit word became another.
    #[inline]
    pub const fn word(&mut self, old: u16, new: u16) {
        // Each call adds less than 2^17, and no rewriting changes more than some dozen words:
        // it would take 2^15 to overflow.
        self.0 += (!old) as u32 + new as u32;
    }

    /// A field of an even number of bytes became another of the same length.
    #[inline]
    pub fn field<const N: usize>(&mut self, old: [u8; N], new: [u8; N]) {
        const { assert!(N.is_multiple_of(2), "a sum is one of whole words") };
        for (old, new) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
            self.word(u16::from_be_bytes([old[0], old[1]]), u16::from_be_bytes([new[0], new[1]]));
        }
    }

    /// Carries the change into a complete checksum.
    ///
    /// This is equation 3 of RFC 1624 §3, `HC' = ~(~HC + ~m + m')`. Equation 2 (from RFC 1141)
    /// saves an addition, but can give 0xffff where a full sum gives 0x0000.
    #[inline]
    #[must_use]
    pub const fn whole(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u32)
    }

    /// Carries the change into the uncomplemented sum of a pseudo-header, as it stands in the
    /// checksum field of a packet whose checksum the device will complete. Only what the
    /// pseudo-header covers may be in the change: addresses, never ports.
    #[inline]
    #[must_use]
    pub const fn partial(self, sum: u16) -> u16 {
        fold(self.0 + sum as u32)
    }

    /// Both changes together.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// The checksum of bytes that follow each other, to be put into a zeroed field.
pub fn of(bytes: &[u8]) -> u16 {
    !sum(0, bytes)
}

/// The folded sum of an IPv4 header, whose length is a multiple of four bytes. Each packet pays
/// for this one, and so few words are not worth a call.
#[inline]
pub fn of_header(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let [a, b, c, d] = [sum >> 48, sum >> 32, sum >> 16, sum].map(|word| (word & 0xffff) as u32);
    !fold(a + b + c + d)
}

/// Adds bytes, the last one padded with zero where their number is odd, to a folded sum.
pub fn sum(start: u16, bytes: &[u8]) -> u16 {
    let added = etherparse::checksum::Sum16BitWords::new().add_slice(bytes).ones_complement();
    // etherparse sums in native byte order and gives back the complement of that.
    fold(u32::from(start) + u32::from(u16::from_be(!added)))
}

/// The folded sum of a pseudo-header (RFC 793 §3.1, RFC 8200 §8.1) over addresses of either
/// family, given as they stand in the packet.
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: usize) -> u16 {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let start = fold(
        u32::from(protocol)
            + u32::from(u16::from_be_bytes([length[0], length[1]]))
            + u32::from(u16::from_be_bytes([length[2], length[3]])),
    );
    sum(sum(start, source), destination)
}

/// Adds the carries back in until 16 bits are left.
#[inline]
pub const fn fold(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits of any 32-bit sum")]
    {
        sum as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test] // RFC 1624 §4
    fn a_change_gives_plus_zero_where_rfc_1141_gave_minus_zero() {
        let mut change = Change::default();
        change.word(0x5555, 0x3285);
        assert_eq!(change.whole(0xdd2f), 0x0000);
    }

    #[test] // RFC 1071 §3
    fn the_sum_of_the_rfcs_own_example() {
        assert_eq!(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    proptest! {
        #[test]
        fn a_sum_equals_the_slow_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(of(&bytes), slow(&bytes));
        }

        #[test]
        fn a_headers_sum_equals_the_slow_one(words in prop::collection::vec(any::<[u8; 4]>(), 5..=15)) {
            prop_assert_eq!(of_header(&words.concat()), slow(&words.concat()));
        }

        #[test]
        fn a_changed_checksum_equals_a_new_one(
            mut bytes in prop::collection::vec(any::<u8>(), 20..60), at in 0usize..8, new in any::<[u8; 4]>()
        ) {
            bytes[0] |= 1; // all zeros have two checksums; no packet is all zeros
            let at = at * 2 + 2;
            let before = slow(&bytes);
            let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            bytes[at..at + 4].copy_from_slice(&new);
            let mut change = Change::default();
            change.field(old, new);
            prop_assert_eq!(change.whole(before), slow(&bytes));
        }

        #[test]
        fn a_partial_sum_is_changed_as_if_summed_anew(
            source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), new in any::<[u8; 4]>(), length in 0usize..60_000
        ) {
            let mut change = Change::default();
            change.field(source, new);
            let got = change.partial(pseudo_header(&source, &destination, 6, length));
            prop_assert_eq!(got, pseudo_header(&new, &destination, 6, length));
        }
    }
}
