//! Why a packet went the way it went: one closed list, the same word everywhere.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Why a packet was forwarded, answered or dropped. The word is the same in counters,
        /// logs, JSON, captures and prose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All of them, in the order in which reports list them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The one word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// A sentence that explains it, for people who meet it for the first time.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_start(),)+ }
            }
        }
    };
}

reasons! {
    /// The packet belongs to a flow in the table, and went where it says.
    KnownFlow = "known_flow",
    /// The packet opened a flow, which is in the table now.
    NewFlow = "new_flow",
    /// A packet in mid-flow without a binding was placed again by a hash that always picks the same backend.
    AdoptedFlow = "adopted_flow",
    /// A fragment that follows its datagram's first one, which carried the ports.
    Fragment = "fragment",
    /// An ICMP error about a packet of a flow; at layer 4 translated together with the packet it quotes.
    IcmpError = "icmp_error",
    /// Not for a virtual service and not of a flow: routed on unchanged, as the host would have done.
    NotOurs = "not_ours",

    /// A SYN for a layer-7 service was answered, or a packet of that handshake taken in.
    Handshake = "handshake",
    /// A SYN was answered without remembering it, because too many handshakes are under way.
    SynCookie = "syn_cookie",
    /// A SYN or reset that does not fit its connection was answered by the state of the connection (RFC 5961).
    ChallengeAck = "challenge_ack",
    /// A late segment of a connection that is over was acknowledged again.
    Closing = "closing",

    /// A ping to a VIP, which the balancer answers itself.
    EchoRequest = "echo_request",
    /// No virtual service has this address, protocol and port.
    NoService = "no_service",
    /// The service has no backend that is up and takes new flows.
    NoBackend = "no_backend",
    /// The flow table has no room for another flow.
    TableFull = "table_full",
    /// This client already has as many flows as one client may have.
    ClientLimit = "client_limit",
    /// No local address and port is free towards the backend, nor, in DNAT, the client's own.
    NoLocalPort = "no_local_port",
    /// Not the start of a flow, and no flow in the table has this tuple.
    NoFlow = "no_flow",
    /// The TTL or hop limit came to its end here.
    TtlExpired = "ttl_expired",

    /// Neither IPv4 nor IPv6, or a header is cut off or contradicts itself.
    Malformed = "malformed",
    /// A checksum that the balancer has to believe is wrong (IPv4 header, ICMP, TCP at layer 7) or missing (UDP over IPv6).
    BadChecksum = "bad_checksum",
    /// The source or destination cannot be on a wire: loopback, broadcast, unspecified, IPv4-mapped, a multicast source, a VIP as source.
    Martian = "martian",
    /// Multicast or link-local talk, mostly of the host itself, which goes no further than its link.
    LinkLocal = "link_local",
    /// Source and destination are the same endpoint.
    Land = "land",
    /// A TCP segment outside the window of its connection, or without an acknowledgement.
    OutOfWindow = "out_of_window",
    /// A fragment of a TCP segment for a layer-7 service, where no segments are put together from fragments.
    TcpFragment = "tcp_fragment",
    /// Neither TCP, UDP nor ICMP; or a packet with a source route or an authentication header.
    UnsupportedProtocol = "unsupported_protocol",
    /// An ICMP message that the balancer has no use for.
    IcmpUnsupported = "icmp_unsupported",
    /// An ICMP error whose quoted packet belongs to no flow, or is too short to tell.
    IcmpNoFlow = "icmp_no_flow",
    /// An ICMP error that announces an MTU below the least that IP allows.
    IcmpBadMtu = "icmp_bad_mtu",
    /// A first fragment without the whole transport header, or one that would overwrite it (RFC 1858, RFC 3128).
    FragmentTiny = "fragment_tiny",
    /// Too many fragments wait for their first one: this was among the oldest, or its datagram has too many.
    FragmentOverflow = "fragment_overflow",
    /// The first fragment did not come in time.
    FragmentTimeout = "fragment_timeout",
    /// The worker that owns the flow has too many packets waiting from other queues.
    HandoverFull = "handover_full",
    /// The kernel did not take the packet back.
    WriteFailed = "write_failed",
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_explained() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Reason::COUNT);
        for reason in Reason::ALL {
            assert!(reason.explanation().ends_with('.'), "{reason} lacks a sentence");
        }
    }
}
