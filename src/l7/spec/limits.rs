//! Bounds: of what clients may send and for how long they are waited for, and of what backends are given.

use std::time::Duration;

/// How long clients are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The TLS handshake.
    pub handshake: Duration,
    /// A request's head, from its first byte, or from the opening of the connection for the first one.
    pub head: Duration,
    /// The next bytes of a request's body.
    pub body: Duration,
    /// That a client takes more of its answers.
    pub send: Duration,
    /// Between two requests of one connection.
    pub keep_alive: Duration,
    /// A whole request, from its head to the end of its answer.
    pub total: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            body: Duration::from_mins(1),
            send: Duration::from_mins(1),
            keep_alive: Duration::from_secs(75),
            total: None,
        }
    }
}

/// What one request may be, and how many a connection may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes of a head.
    pub head: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Bytes of a body.
    pub body: Option<u64>,
    /// Streams of an HTTP/2 connection at once.
    pub streams: u32,
}

impl RequestLimits {
    /// The longest head that can be asked for: what hyper can hold of it, and room to spare.
    pub const MOST_HEAD: usize = 64 << 10;

    /// The most fields that can be asked for: as many as hyper takes without a list on the heap.
    pub const MOST_FIELDS: usize = 100;
}

impl Default for RequestLimits {
    fn default() -> Self {
        // HAProxy takes heads of half the size by default, nginx of as much.
        Self { head: 32 << 10, fields: Self::MOST_FIELDS, body: None, streams: 128 }
    }
}

/// How many connections clients may have at once, to all sites together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// All of them.
    pub connections: usize,
    /// Those of one source: an IPv4 address, or the first 64 bits of an IPv6 address.
    pub per_source: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self { connections: 100_000, per_source: 20_000 }
    }
}

/// Bounds of a group's upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Upstreams of one backend at once.
    pub connections: usize,
    /// Requests of one backend at once.
    pub requests: Option<usize>,
    /// Those upstreams that may be idle.
    pub idle: usize,
    /// How long one may be idle.
    pub idle_time: Duration,
    /// How old one may become; it ends behind the request that it serves then.
    pub age: Option<Duration>,
    /// How many requests one may serve.
    pub uses: Option<u64>,
    /// Requests of the group that may wait for an upstream.
    pub waiting: usize,
    /// How long one may wait.
    pub wait: Duration,
    /// How long opening one may take, TLS included.
    pub connect: Duration,
    /// How long the head of the answer may take, in each try.
    pub response: Duration,
    /// How long the next bytes of the answer's body may take.
    pub body: Duration,
    /// How long the head of the answer may take in all, over all tries and waiting.
    pub total: Option<Duration>,
    /// Requests that may be tried again, in percent of all, beside ten a second that always may.
    pub retry_percent: u32,
    /// Answers that are no better than none, where the request may be sent again.
    pub retry_on: Statuses,
    /// After what time without an answer a request that may be sent again is sent to a second backend as well.
    pub hedge: Option<Duration>,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            requests: None,
            idle: 256,
            idle_time: Duration::from_secs(60),
            age: None,
            uses: None,
            waiting: 1024,
            wait: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            response: Duration::from_mins(1),
            body: Duration::from_mins(5),
            total: None,
            retry_percent: 20,
            retry_on: Statuses::default(),
            hedge: None,
        }
    }
}

/// Some of the statuses 400 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 4]);

impl Statuses {
    /// The statuses that can be among them.
    pub const RANGE: std::ops::RangeInclusive<u16> = 400..=599;

    /// One more; false for one that cannot be among them.
    pub fn insert(&mut self, status: u16) -> bool {
        let Some((word, bit)) = Self::place(status) else { return false };
        self.0.get_mut(word).map(|word| *word |= bit).is_some()
    }

    /// Whether it is among them.
    pub fn contains(&self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        Self::RANGE.filter(|status| self.contains(*status))
    }

    fn place(status: u16) -> Option<(usize, u64)> {
        let at = Self::RANGE.contains(&status).then(|| status.wrapping_sub(*Self::RANGE.start()))?;
        Some((usize::from(at / 64), 1 << (at % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_that_were_put_in() {
        let mut statuses = Statuses::default();
        for status in [400, 463, 464, 503, 599] {
            assert!(!statuses.contains(status) && statuses.insert(status) && statuses.contains(status));
        }
        for status in [0, 200, 399, 600, u16::MAX] {
            assert!(!statuses.insert(status) && !statuses.contains(status));
        }
        assert_eq!(statuses.iter().collect::<Vec<_>>(), [400, 463, 464, 503, 599]);
    }
}
