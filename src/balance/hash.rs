//! Hashes that mean the same everywhere: after a restart, on another machine, in another version.
//!
//! `sh` and `mh` are of use only if everybody who asks gets the same answer: a balancer that was
//! restarted must find the backend of a flow it no longer knows, and a second one that of a
//! flow the first has opened. So their hashes depend on the configuration and the packet alone,
//! never on a random seed, and the function is one whose output is laid down: `SipHash`-2-4, as
//! in its paper (Aumasson and Bernstein, 2012, with test vectors), over bytes in network order. The
//! standard library's hasher and foldhash, which the flow table uses, both reserve the
//! right to change theirs.
//!
//! The keys below are no secret. A client that knows them can choose source ports that all fall to one
//! backend: the price of an answer that anybody can work out. The other schedulers do not
//! look at ports.

use siphasher::sip::SipHasher24;

use crate::packet::{Address, Endpoint, FiveTuple};

/// What a hash is for. Each use has its own key, so that two hashes of the same
/// bytes have nothing to do with each other.
///
/// The keys are the names written as ASCII, and part of the format: to change one is to move
/// flows, after an update, away from where they were.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// Where a backend's permutation of the Maglev table begins.
    Offset,
    /// The step of that permutation.
    Skip,
    /// A backend's side of rendezvous hashing.
    Seat,
    /// A flow.
    Flow,
    /// A client.
    Client,
}

impl Use {
    fn hasher(self) -> SipHasher24 {
        SipHasher24::new_with_key(match self {
            Self::Offset => b"fourseven offset",
            Self::Skip => b"fourseven skip  ",
            Self::Seat => b"fourseven seat  ",
            Self::Flow => b"fourseven flow  ",
            Self::Client => b"fourseven client",
        })
    }
}

/// The hash of an address and a port, as eighteen bytes.
pub(super) fn endpoint(purpose: Use, endpoint: Endpoint) -> u64 {
    let mut bytes = [0; 18];
    write_endpoint(&mut bytes, endpoint);
    purpose.hasher().hash(&bytes)
}

/// The hash of a five-tuple: protocol, source, destination, as 37 bytes.
pub(super) fn flow(tuple: &FiveTuple) -> u64 {
    let mut bytes = [0; 37];
    let [protocol, ends @ ..] = &mut bytes;
    *protocol = tuple.protocol as u8;
    let (source, destination) = ends.split_at_mut(18);
    write_endpoint(source, tuple.source);
    write_endpoint(destination, tuple.destination);
    Use::Flow.hasher().hash(&bytes)
}

/// The hash of a client's address, without its port.
pub(super) fn client(address: Address) -> u64 {
    Use::Client.hasher().hash(&address.octets())
}

fn write_endpoint(bytes: &mut [u8], endpoint: Endpoint) {
    let (address, port) = bytes.split_at_mut(16);
    address.copy_from_slice(&endpoint.address.octets());
    port.copy_from_slice(&endpoint.port.to_be_bytes());
}

/// Stirs a hash, or two that were joined by exclusive or, into a new one.
///
/// This is the finalizer of `SplitMix64` (Steele, Lea and Flood, 2014): a bijection in which every
/// bit of the input moves about half of the output's. A tenth of the cost of hashing again.
#[inline]
pub(super) const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The `n`th hash after the first: the sequence of `SplitMix64` from that seed.
#[inline]
pub(super) const fn again(hash: u64, n: u64) -> u64 {
    mix(hash.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;
    use std::net::SocketAddr;

    #[test] // Appendix A of the SipHash paper: key 00 01 … 0f, message 00 01 … 0e
    fn the_function_is_the_one_of_its_paper() {
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let message: [u8; 15] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(SipHasher24::new_with_key(&key).hash(&message), 0xa129_ca61_49be_45e5);
    }

    #[test] // the reference implementation of SplitMix64, seed 1234567
    fn the_sequence_is_that_of_splitmix64() {
        let sequence: Vec<_> = (1..4).map(|n| again(1_234_567, n)).collect();
        assert_eq!(
            sequence,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test] // the numbers come from another implementation, written for the purpose in Python
    fn hashes_do_not_change_from_version_to_version() {
        let end = |text: &str| Endpoint::from(text.parse::<SocketAddr>().unwrap());
        let tuple = FiveTuple {
            protocol: Protocol::Tcp,
            source: end("198.51.100.1:40000"),
            destination: end("203.0.113.1:80"),
        };
        assert_eq!(flow(&tuple), 0xb8c2_ec64_d792_9251);
        assert_eq!(client(tuple.source.address), 0x34e0_a875_d305_89fb);
        assert_eq!(endpoint(Use::Seat, end("[2001:db8::7]:8080")), 0x02cb_f22b_35d9_887d);
    }
}
