//! What a stack is told when it is made: the device, the bounds, the patience.

use std::time::Duration;

/// The device that frames come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTraits {
    /// The largest IP packet on the wire, in bytes.
    pub mtu: u16,
    /// What it does for us.
    pub offloads: Offloads,
}

/// What the device does for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// Nothing: packets are at most one MTU long, and their checksums are complete.
    None,
    /// It cuts large TCP packets into segments and completes checksums (virtio-net header).
    Segments,
}

/// How one listening endpoint treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// How much may wait in each direction.
    pub rings: Rings,
    /// Who watches that the path is not flooded.
    pub congestion: Congestion,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            rings: Rings { receive: RingSize::K64, transmit: RingSize::K256 },
            congestion: Congestion::Cubic,
        }
    }
}

/// The sizes of a connection's two rings. They are fixed when the connection opens, since the
/// window scale that is agreed upon then follows from the receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rings {
    /// For what the client sends: its throughput is at most this per round trip.
    pub receive: RingSize,
    /// For what is sent to the client: likewise.
    pub transmit: RingSize,
}

/// A size of ring. There are few, so that rings can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RingSize {
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
    /// 256 KiB.
    K256,
    /// 1 MiB.
    M1,
}

impl RingSize {
    /// All of them, the smallest first.
    pub const ALL: [Self; 4] = [Self::K16, Self::K64, Self::K256, Self::M1];

    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::K16 => 16 << 10,
            Self::K64 => 64 << 10,
            Self::K256 => 256 << 10,
            Self::M1 => 1 << 20,
        }
    }
}

/// Who watches that the path is not flooded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// Nobody: everything that the client's window allows is sent. For a client on the same
    /// host or wire.
    None,
    /// CUBIC (RFC 9438), which starts with ten segments (RFC 6928).
    Cubic,
}

impl Congestion {
    /// How many of the path's segments make one of the stack's own, where the device can cut.
    ///
    /// The controller's unit is the stack's segment, and it grows by one of these for each
    /// acknowledgement; a Linux receiver acknowledges a large packet once. Ten is today's
    /// initial window, and large enough that acknowledging more at a time costs no growth.
    pub(super) const fn segments_at_once(self) -> usize {
        match self {
            Self::None => usize::MAX,
            Self::Cubic => 10,
        }
    }
}

/// What a stack may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are open, or whose rest is still under way.
    pub flows: usize,
    /// Those of one client: one IPv4 address, or one IPv6 /64.
    pub flows_per_client: usize,
    /// Handshakes that are remembered. Past it, SYNs are answered by cookies.
    pub half_open: usize,
    /// Those of one client, counted likewise. Past it, its SYNs are answered by cookies.
    pub half_open_per_client: usize,
    /// Connections that are over and wait for late segments.
    pub tombstones: usize,
    /// Bytes of rings that are kept for the next connection.
    pub idle_ring_bytes: usize,
    /// Resets and other bare answers a second, with as many at once.
    pub answers_per_second: u32,
    /// Bytes that one connection may send before the others have their turn.
    pub turn_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 100_000,
            flows_per_client: 50_000,
            half_open: 4096,
            half_open_per_client: 512,
            tombstones: 65_536,
            idle_ring_bytes: 64 << 20,
            answers_per_second: 1000,
            turn_bytes: 256 << 10,
        }
    }
}

/// How long a stack waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Silence after which the client is asked whether it is still there (RFC 9293 §3.8.4).
    pub keep_alive: Duration,
    /// Silence after which the client is taken for dead: it owes an acknowledgement, or has
    /// not answered to keep-alives. Longer than `keep_alive`.
    pub dead: Duration,
    /// Time without a byte of progress in either direction after which a connection is
    /// reset, even if the client is there.
    pub idle: Duration,
    /// How long nothing must have moved for a connection's rings to go back to the pool. With
    /// the next byte it is given others, which costs about as much as some packets.
    pub park: Duration,
    /// How long a connection may need to end that nobody reads any more.
    pub orphan: Duration,
    /// How long the client's FIN is waited for when all is said and ours is acknowledged.
    pub fin_wait_2: Duration,
    /// How long data that comes in that time are taken and thrown away before they are
    /// answered by a reset, which may destroy what the client has not read yet.
    pub linger: Duration,
    /// How long a connection that is over answers to late segments.
    pub time_wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(45),
            dead: Duration::from_secs(100),
            idle: Duration::from_mins(10),
            park: Duration::from_millis(100),
            orphan: Duration::from_mins(1),
            fin_wait_2: Duration::from_mins(1),
            linger: Duration::from_secs(5),
            time_wait: Duration::from_mins(1),
        }
    }
}

/// What a stack is told when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSettings {
    /// The device.
    pub device: DeviceTraits,
    /// What it may hold.
    pub limits: Limits,
    /// How long it waits.
    pub timeouts: Timeouts,
}

impl StackSettings {
    /// The defaults, on this device.
    pub fn on(device: DeviceTraits) -> Self {
        Self { device, limits: Limits::default(), timeouts: Timeouts::default() }
    }
}
