//! The flags of a TCP header, as one byte.

/// The flags of a TCP header, its fourteenth byte (RFC 9293 §3.1). A [`View`](super::View) keeps those that
/// matter to who watches a connection: SYN, ACK, FIN and RST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has no more data.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// All of these.
    pub(super) const WATCHED: u8 = 0x17;
    /// The second step of a handshake.
    pub const SYN_ACK: Self = Self(0x12);

    /// SYN is set.
    #[inline]
    pub const fn syn(self) -> bool {
        self.any(Self::SYN)
    }

    /// ACK is set.
    #[inline]
    pub const fn ack(self) -> bool {
        self.any(Self::ACK)
    }

    /// FIN is set.
    #[inline]
    pub const fn fin(self) -> bool {
        self.any(Self::FIN)
    }

    /// RST is set.
    #[inline]
    pub const fn rst(self) -> bool {
        self.any(Self::RST)
    }

    /// Whether any of these flags is set.
    #[inline]
    pub const fn any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Whether this asks for a new connection: a SYN that acknowledges nothing.
    #[inline]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0 | Self::RST.0 | Self::FIN.0) == Self::SYN.0
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
