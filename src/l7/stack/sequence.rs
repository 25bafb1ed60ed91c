//! TCP sequence numbers: 32 bits that wrap (RFC 9293 §3.4). All their arithmetic is here.

/// A sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sequence(pub(super) u32);

impl Sequence {
    /// The number `bytes` further on.
    #[inline]
    pub(super) const fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The number `bytes` before.
    #[inline]
    pub(super) const fn minus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }

    /// The way from `earlier` to here, wrapping: a large number where `earlier` is later.
    #[inline]
    pub(super) const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this comes after `other`, both being less than half the circle apart.
    #[inline]
    pub(super) const fn is_after(self, other: Self) -> bool {
        let way = self.0.wrapping_sub(other.0);
        way != 0 && way < 1 << 31
    }

    /// The later of two.
    #[inline]
    pub(super) const fn max(self, other: Self) -> Self {
        if self.is_after(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let end = Sequence(u32::MAX);
        assert!(end.plus(1).is_after(end) && !end.is_after(end.plus(1)) && !end.is_after(end));
        assert_eq!(end.plus(5).since(end), 5);
        assert_eq!(end.max(Sequence(3)), Sequence(3));
        assert_eq!(Sequence(1).minus(2), end);
    }
}
