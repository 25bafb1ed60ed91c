//! The byte order of a file, or of a section of one.

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    #[inline]
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// The number at a place, whose bytes the caller has seen to be there; 0 where they are not.
    #[inline]
    pub fn u32_at(self, bytes: &[u8], at: usize) -> u32 {
        bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| self.u32(*bytes))
    }

    /// The same of two bytes.
    #[inline]
    pub fn u16_at(self, bytes: &[u8], at: usize) -> u16 {
        let Some(bytes) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { return 0 };
        match self {
            Self::Little => u16::from_le_bytes(*bytes),
            Self::Big => u16::from_be_bytes(*bytes),
        }
    }

    /// The same of eight bytes.
    pub fn u64_at(self, bytes: &[u8], at: usize) -> u64 {
        let Some(bytes) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { return 0 };
        match self {
            Self::Little => u64::from_le_bytes(*bytes),
            Self::Big => u64::from_be_bytes(*bytes),
        }
    }
}
