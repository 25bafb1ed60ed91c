//! The balancer's own account of a run, as `fourseven run --json` gives it, and whether its sums agree.
//!
//! The lab does not take the balancer's word for it: [`Report::disagreement`] adds up again.

use serde::{Deserialize, Serialize};

/// What the balancer counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Packets, by what became of them.
    pub packets: Packets,
    /// Packets, by why that became of them.
    pub reasons: Vec<ReasonCount>,
    /// Flows.
    pub flows: Flows,
    /// The services and their backends.
    pub services: Vec<ServiceCount>,
    /// What layer 7 did, where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer7: Option<Layer7>,
    /// Whether the balancer itself says that its sums agree.
    pub agree: bool,
}

/// What layer 7 did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer7 {
    /// The clients' connections.
    pub connections: Connections,
    /// Its services.
    pub sites: Vec<SiteCount>,
    /// The backends of its groups.
    pub upstreams: Vec<UpstreamCount>,
}

/// Clients' TCP connections, which end at the balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Were opened.
    pub opened: u64,
    /// Ended, for all reasons together.
    pub ended: u64,
}

/// One service of layer 7.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCount {
    /// Its name.
    pub name: String,
    /// Requests that came whole.
    pub requests: u64,
    /// What became of them, and of sessions.
    pub ends: Vec<WordCount>,
}

/// One backend of one group, or a sum of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamCount {
    /// The group's name.
    pub group: String,
    /// The backend's endpoint.
    pub backend: String,
    /// Requests over an upstream that was opened for them.
    pub opened: u64,
    /// Requests over an upstream that had served others before.
    pub reused: u64,
    /// Why upstreams were opened and dropped, and what failed.
    pub ends: Vec<WordCount>,
}

/// How often something with a word of its own occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordCount {
    /// The word.
    pub word: String,
    /// How often.
    pub count: u64,
}

impl Layer7 {
    /// The names of the groups, in the order of the configuration.
    pub fn groups(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.upstreams.iter().map(|upstream| upstream.group.as_str()).collect();
        names.dedup();
        names
    }

    /// How many requests of a group had an upstream opened for them, and how many an upstream that was there.
    pub fn upstreams(&self, group: &str) -> (u64, u64) {
        let of = self.upstreams.iter().filter(|upstream| upstream.group == group);
        of.fold((0, 0), |(opened, reused), upstream| {
            (opened.saturating_add(upstream.opened), reused.saturating_add(upstream.reused))
        })
    }

    /// How often this occurred to the upstreams of a group.
    pub fn times(&self, group: &str, word: &str) -> u64 {
        let of = self.upstreams.iter().filter(|upstream| upstream.group == group);
        let ends = of.flat_map(|upstream| &upstream.ends).filter(|end| end.word == word);
        ends.fold(0, |sum, end| sum.saturating_add(end.count))
    }
}

/// Packets, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// That came in.
    pub received: u64,
    /// That went on.
    pub forwarded: u64,
    /// That the balancer answered itself.
    pub answered: u64,
    /// That ended in a connection of the balancer's own.
    #[serde(default)]
    pub delivered: u64,
    /// That went nowhere.
    pub dropped: u64,
    /// That wait, for their first fragment or for packets before them.
    pub held: u64,
    /// That were handed from one worker to another, and are counted above like all others.
    pub handed_over: u64,
    /// Answers that were due, and kept back by the rate limit.
    pub answers_suppressed: u64,
}

/// Packets that came to one end for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// `forwarded`, `answered`, `delivered` or `dropped`.
    pub outcome: String,
    /// The reason's word.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

/// Flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// That were opened.
    pub opened: u64,
    /// That ended.
    pub ended: u64,
    /// That were closed or half-open, and removed early to make room.
    pub reclaimed: u64,
    /// That are in the table.
    pub live: u64,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCount {
    /// Its name.
    pub name: String,
    /// Its backends.
    pub backends: Vec<BackendCount>,
}

/// One backend of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendCount {
    /// Its endpoint.
    pub address: String,
    /// Flows that it was given.
    pub flows: u64,
    /// Packets from clients to it.
    pub packets_original: u64,
    /// Packets from it to clients.
    pub packets_reply: u64,
    /// Bytes from clients to it.
    pub bytes_original: u64,
    /// Bytes from it to clients.
    pub bytes_reply: u64,
    /// Flows that it refused.
    pub refused: u64,
}

impl BackendCount {
    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.flows, other.flows),
            (&mut self.packets_original, other.packets_original),
            (&mut self.packets_reply, other.packets_reply),
            (&mut self.bytes_original, other.bytes_original),
            (&mut self.bytes_reply, other.bytes_reply),
            (&mut self.refused, other.refused),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Report {
    /// The first sum that does not come out, if one does not.
    pub fn disagreement(&self) -> Option<String> {
        let packets = &self.packets;
        let ends = [
            ("forwarded", packets.forwarded),
            ("answered", packets.answered),
            ("delivered", packets.delivered),
            ("dropped", packets.dropped),
        ];
        let all = ends.iter().map(|end| end.1).fold(packets.held, u64::saturating_add);
        if packets.received != all {
            return Some(format!(
                "received {} is not forwarded {} + answered {} + delivered {} + dropped {} + held {}",
                packets.received,
                packets.forwarded,
                packets.answered,
                packets.delivered,
                packets.dropped,
                packets.held
            ));
        }
        for (outcome, packets) in ends {
            let reasons = self.reasons.iter().filter(|reason| reason.outcome == outcome);
            let sum = reasons.map(|reason| reason.packets).fold(0, u64::saturating_add);
            if sum != packets {
                return Some(format!("{outcome} {packets} is not the sum of its reasons, {sum}"));
            }
        }
        let backends = self.services.iter().flat_map(|service| &service.backends);
        let given = backends.map(|backend| backend.flows).fold(0, u64::saturating_add);
        if given != self.flows.opened {
            return Some(format!("{} flows were opened, and {given} given to backends", self.flows.opened));
        }
        let Flows { opened, ended, reclaimed, live } = self.flows;
        if opened != ended.saturating_add(live)
            && opened != ended.saturating_add(live).saturating_add(reclaimed)
        {
            return Some(format!("of {opened} flows {ended} ended and {live} are live"));
        }
        (!self.agree).then(|| "the balancer says that its sums do not agree".to_owned())
    }

    /// The backends of all services, by endpoint.
    pub fn backends(&self) -> impl Iterator<Item = &BackendCount> {
        self.services.iter().flat_map(|service| &service.backends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            packets: Packets { received: 10, forwarded: 7, answered: 2, dropped: 1, ..Packets::default() },
            reasons: [("forwarded", 7), ("answered", 2), ("dropped", 1)]
                .map(|(outcome, packets)| ReasonCount {
                    outcome: outcome.into(),
                    reason: "x".into(),
                    packets,
                })
                .to_vec(),
            flows: Flows { opened: 3, ended: 2, reclaimed: 0, live: 1 },
            services: vec![ServiceCount {
                name: "web".into(),
                backends: vec![BackendCount { flows: 3, ..BackendCount::default() }],
            }],
            layer7: None,
            agree: true,
        }
    }

    #[test]
    fn a_group_is_the_sum_of_its_backends() {
        let upstream = |group: &str, opened| UpstreamCount {
            group: group.into(),
            opened,
            reused: 10,
            ends: vec![WordCount { word: "unopened".into(), count: 2 }],
            ..UpstreamCount::default()
        };
        let upstreams = vec![upstream("api", 1), upstream("api", 2), upstream("img", 4)];
        let layer7 = Layer7 { upstreams, ..Layer7::default() };
        assert_eq!(layer7.groups(), ["api", "img"]);
        assert_eq!((layer7.upstreams("api"), layer7.times("api", "unopened")), ((3, 20), 4));
        assert_eq!((layer7.upstreams("none"), layer7.times("img", "cold")), ((0, 0), 0));
    }

    #[test]
    fn sums_that_agree_are_believed_and_each_that_does_not_is_named() {
        assert_eq!(report().disagreement(), None);
        for (spoil, want) in [
            ((|r| r.packets.received = 11) as fn(&mut Report), "received 11"),
            (|r| r.reasons[0].packets = 6, "forwarded 7 is not the sum"),
            (|r| r.services[0].backends[0].flows = 2, "3 flows were opened"),
            (|r| r.flows.live = 0, "of 3 flows"),
            (|r| r.agree = false, "the balancer says"),
        ] {
            let mut spoilt = report();
            spoil(&mut spoilt);
            assert!(spoilt.disagreement().is_some_and(|told| told.starts_with(want)), "{want}");
        }
    }
}
