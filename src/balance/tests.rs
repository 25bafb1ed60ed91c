//! The balancer as its users see it. What is peculiar to a scheduler is tested with the schedulers.

use crate::datapath::Nat;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;

pub(super) const PASSIVE: PassiveHealth = PassiveHealth { fall: 1, retry: Duration::from_secs(10) };

pub(super) fn end(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub(super) fn listen(text: &str) -> Listen {
    text.parse().unwrap()
}

/// The `i`th backend's endpoint.
pub(super) fn v4(i: usize) -> Endpoint {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0001 + u32::try_from(i).unwrap()), 8080)).into()
}

fn v6(i: usize) -> Endpoint {
    SocketAddr::from((Ipv6Addr::from((0x2001_0db8 << 96) + i as u128), 8080)).into()
}

pub(super) fn backend(endpoint: Endpoint, weight: u16) -> BackendSpec {
    BackendSpec { endpoint, weight: Weight::new(weight).unwrap(), drain: false }
}

pub(super) fn service(name: &str, listens: &[&str], backends: Vec<BackendSpec>) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        listen: listens.iter().map(|text| listen(text)).collect(),
        nat: Nat::Full,
        scheduler: SchedulerKind::Rr,
        backends,
    }
}

/// The packet of a client that opens a flow: client `client`, from port `port`.
pub(super) fn tuple(client: u32, port: u16) -> FiveTuple {
    let source = SocketAddr::from((Ipv4Addr::from(0xc633_6400 + client), port)).into();
    FiveTuple { protocol: Protocol::Tcp, source, destination: end("203.0.113.1:80") }
}

/// One service with one VIP, and its backends with these weights.
pub(super) struct One {
    pub(super) balancer: Balancer,
    pub(super) now: Instant,
    pub(super) chance: StdRng,
}

impl One {
    pub(super) fn new(scheduler: SchedulerKind, weights: &[u16]) -> Self {
        Self::of(scheduler, weights.iter().enumerate().map(|(i, weight)| backend(v4(i), *weight)).collect())
    }

    pub(super) fn of(scheduler: SchedulerKind, backends: Vec<BackendSpec>) -> Self {
        let spec = ServiceSpec { scheduler, ..service("web", &["tcp/203.0.113.1:80"], backends) };
        let balancer = Balancer::new(vec![spec], PASSIVE, 1).unwrap();
        Self { balancer, now: Instant::START, chance: StdRng::seed_from_u64(1) }
    }

    pub(super) fn pick(&mut self, tuple: &FiveTuple) -> Option<usize> {
        self.balancer.pick(self.now, VipId(0), tuple, &mut self.chance).map(BackendId::index)
    }

    pub(super) fn place(&self, tuple: &FiveTuple) -> Option<usize> {
        self.balancer.place(self.now, VipId(0), tuple).map(BackendId::index)
    }

    /// Takes a backend down.
    pub(super) fn refuse(&self, place: usize) {
        self.balancer.refused(self.now, id(place));
    }

    pub(super) fn accept(&self, place: usize) {
        self.balancer.accepted(id(place));
    }

    pub(super) fn open(&self, place: usize) {
        self.balancer.opened(id(place));
    }

    pub(super) fn close(&self, place: usize) {
        self.balancer.closed(id(place));
    }
}

pub(super) fn id(place: usize) -> BackendId {
    BackendId(u32::try_from(place).unwrap())
}

#[test]
fn what_is_wrong_with_services_is_said_in_their_own_words() {
    let [one, six] = [backend(v4(0), 1), backend(v6(1), 1)];
    let good = service("good", &["tcp/203.0.113.1:80"], vec![one]);
    for (want, services) in [
        (
            "service `web` listens nowhere (give it `listen = [\"tcp/ADDRESS:PORT\"]`)",
            vec![service("web", &[], vec![one])],
        ),
        ("service `web` has no backend", vec![service("web", &["tcp/203.0.113.2:80"], vec![])]),
        (
            "service `web` listens on tcp/[2001:db8::1]:80, but none of its backends is IPv6",
            vec![service("web", &["tcp/203.0.113.2:80", "tcp/[2001:db8::1]:80"], vec![one])],
        ),
        (
            "service `web` listens on udp/203.0.113.2:53, but none of its backends is IPv4",
            vec![service("web", &["udp/203.0.113.2:53"], vec![six])],
        ),
        (
            "tcp/203.0.113.1:80 is listened on twice: by service `good` and by service `web`",
            vec![good.clone(), service("web", &["tcp/203.0.113.1:80"], vec![one])],
        ),
        (
            "tcp/203.0.113.2:80 is listened on twice: by service `web` and by service `web`",
            vec![good.clone(), service("web", &["tcp/203.0.113.2:80", "tcp/203.0.113.2:80"], vec![one])],
        ),
        (
            "service `web` has backend 10.0.0.1:8080 twice (to give it more flows, give it a weight)",
            vec![service("web", &["tcp/203.0.113.2:80"], vec![one, backend(v4(1), 1), backend(v4(0), 5)])],
        ),
        (
            "service `web` listens on tcp/203.0.113.2:0, and port 0 is no port",
            vec![service("web", &["tcp/203.0.113.2:0"], vec![one])],
        ),
        (
            "service `web` has backend 10.0.0.9:0, and port 0 is no port",
            vec![service("web", &["tcp/203.0.113.2:80"], vec![one, backend(end("10.0.0.9:0"), 1)])],
        ),
        (
            "service `web` has more than 65535 backends",
            vec![service("web", &["tcp/203.0.113.2:80"], (0..65_536).map(|i| backend(v4(i), 1)).collect())],
        ),
        (
            "more than 65536 services",
            (0..=65_536_u32)
                .map(|i| {
                    let listen = Listen { protocol: Protocol::Udp, endpoint: v4(i as usize) };
                    ServiceSpec { listen: vec![listen], ..service("one of many", &[], vec![one]) }
                })
                .collect(),
        ),
        (
            "service `web` brings the listens of all services to more than 65536",
            vec![good, {
                let listens = (0..65_536).map(|i| Listen { protocol: Protocol::Udp, endpoint: v4(i) });
                ServiceSpec { listen: listens.collect(), ..service("web", &[], vec![one]) }
            }],
        ),
    ] {
        let error = Balancer::new(services, PASSIVE, 1).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}

fn two_services() -> Balancer {
    let both = vec![backend(v4(0), 1), backend(v6(0), 1), backend(v4(1), 1)];
    let web = service("web", &["tcp/203.0.113.1:80", "tcp/[2001:db8::1]:80", "udp/203.0.113.1:80"], both);
    let dns =
        ServiceSpec { nat: Nat::Dnat, ..service("dns", &["udp/203.0.113.2:53"], vec![backend(v4(0), 3)]) };
    Balancer::new(vec![web, dns], PASSIVE, 1).unwrap()
}

#[test]
fn ids_are_the_order_of_the_configuration_over_all_services() {
    let balancer = two_services();
    assert_eq!(balancer.find(Protocol::Udp, end("203.0.113.2:53")), Some(VipId(3)));
    let vip = balancer.vip(VipId(3)).unwrap();
    assert_eq!((vip.listen, vip.service), (listen("udp/203.0.113.2:53"), ServiceId(1)));
    let dns = balancer.service(ServiceId(1)).unwrap();
    assert_eq!((dns.name.as_str(), dns.nat, &*dns.backends), ("dns", Nat::Dnat, &[BackendId(3)][..]));
    let backend = balancer.backend(BackendId(3)).unwrap();
    assert_eq!((backend.endpoint, backend.service, backend.weight.value()), (v4(0), ServiceId(1), 3));
    assert_eq!(balancer.services()[0].backends, [BackendId(0), BackendId(1), BackendId(2)]);
    assert_eq!((balancer.vips().len(), balancer.backends().len()), (4, 4));
}

#[test]
fn a_vip_is_found_by_protocol_address_and_port_together() {
    let balancer = two_services();
    for (protocol, endpoint, want) in [
        (Protocol::Tcp, "203.0.113.1:80", Some(VipId(0))),
        (Protocol::Tcp, "[2001:db8::1]:80", Some(VipId(1))),
        (Protocol::Udp, "203.0.113.1:80", Some(VipId(2))),
        (Protocol::Tcp, "203.0.113.1:81", None),
        (Protocol::Tcp, "203.0.113.2:53", None),
        (Protocol::Udp, "[2001:db8::1]:80", None),
    ] {
        assert_eq!(balancer.find(protocol, end(endpoint)), want, "{protocol} {endpoint}");
    }
    for (address, want) in [("203.0.113.2:1", true), ("[2001:db8::1]:1", true), ("203.0.113.3:53", false)] {
        assert_eq!(balancer.is_vip(end(address).address), want, "{address}");
    }
}

#[test]
fn ids_of_another_balancer_name_nothing() {
    let balancer = two_services();
    let (vip, backend) = (VipId(u16::MAX), BackendId(u32::MAX));
    let mut chance = StdRng::seed_from_u64(1);
    assert_eq!(balancer.pick(Instant::START, vip, &tuple(1, 1), &mut chance), None);
    assert_eq!(balancer.place(Instant::START, vip, &tuple(1, 1)), None);
    balancer.opened(backend);
    balancer.closed(backend);
    assert_eq!(balancer.accepted(backend), None);
    assert_eq!(balancer.refused(Instant::START, backend), None);
    assert!(balancer.vip(vip).is_none() && balancer.backend(backend).is_none());
    assert!(balancer.service(ServiceId(u16::MAX)).is_none());
}

#[test]
fn a_flow_stays_in_the_family_of_its_vip() {
    for &scheduler in SchedulerKind::ALL {
        let backends = (0..6).map(|i| backend(if i % 2 == 0 { v4(i) } else { v6(i) }, 1)).collect();
        let spec = ServiceSpec {
            scheduler,
            ..service("web", &["tcp/203.0.113.1:80", "tcp/[2001:db8::1]:80"], backends)
        };
        let balancer = Balancer::new(vec![spec], PASSIVE, 1).unwrap();
        let mut chance = StdRng::seed_from_u64(1);
        for client in 0..200 {
            for (vip, remainder) in [(VipId(0), 0), (VipId(1), 1)] {
                let mut tuple = tuple(client, 40_000);
                tuple.destination = balancer.vip(vip).unwrap().listen.endpoint;
                if remainder == 1 {
                    tuple.source = v6(1000 + client as usize);
                }
                let picked = balancer.pick(Instant::START, vip, &tuple, &mut chance).unwrap();
                balancer.opened(picked);
                assert_eq!(picked.index() % 2, remainder, "{scheduler}");
            }
        }
        let flows: Vec<_> = balancer.backends().iter().map(Backend::live_flows).collect();
        assert!(flows.iter().all(|flows| *flows > 20), "{scheduler}: {flows:?}");
    }
}

#[test]
fn a_draining_backend_takes_no_new_flow() {
    for &scheduler in SchedulerKind::ALL {
        let drained = |i| BackendSpec { drain: true, ..backend(v4(i), 100) };
        let mut one = One::of(scheduler, vec![drained(0), backend(v4(1), 1), drained(2)]);
        one.open(1);
        for client in 0..100 {
            assert_eq!(one.pick(&tuple(client, 40_000)), Some(1), "{scheduler}");
        }
        assert!(one.balancer.backends()[0].draining);
        // What it says about itself is still noted, and upsets nothing.
        one.refuse(0);
        assert!(matches!(one.balancer.backends()[0].health(), Health::Down { .. }));
        assert_eq!(one.pick(&tuple(1, 1)), Some(1), "{scheduler}");
        let mut none = One::of(scheduler, vec![drained(0)]);
        assert_eq!(none.pick(&tuple(1, 1)), None, "{scheduler}");
    }
}

#[test]
fn a_change_of_health_is_told_once() {
    let one = One::new(SchedulerKind::Rr, &[1, 1]);
    let down = Health::Down { until: one.now + PASSIVE.retry };
    assert_eq!(one.balancer.accepted(id(0)), None);
    assert_eq!(one.balancer.refused(one.now, id(0)), Some(down));
    assert_eq!(one.balancer.refused(one.now, id(0)), None);
    assert_eq!(one.balancer.backends()[0].health(), down);
    assert_eq!(one.balancer.backends()[1].health(), Health::Up);
    assert_eq!(one.balancer.accepted(id(0)), Some(Health::Up));
    assert_eq!(one.balancer.accepted(id(0)), None);
}

/// What may happen to a service.
#[derive(Clone, Debug)]
enum Event {
    Flow { client: u32, port: u16 },
    Accepted(usize),
    Refused(usize),
    Closed(usize),
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u32..50, 1_u16..50).prop_map(|(client, port)| Event::Flow { client, port }),
        1 => (0_usize..5).prop_map(Event::Accepted),
        3 => (0_usize..5).prop_map(Event::Refused),
        2 => (0_usize..5).prop_map(Event::Closed),
        1 => (0_u64..12).prop_map(Event::Passes),
    ]
}

proptest! {
    /// The slow, obvious version of health is one `Option` a backend: the second from which it may be tried.
    #[test]
    fn no_pick_is_known_to_be_down_and_none_is_missed(
        kind in prop::sample::select(SchedulerKind::ALL),
        weights in prop::collection::vec(1_u16..5, 5),
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut one = One::new(kind, &weights);
        let mut down_until = [None; 5];
        let mut now = 0;
        for event in events {
            match event {
                Event::Flow { client, port } => {
                    let available: Vec<bool> =
                        down_until.iter().map(|until| until.is_none_or(|until| until <= now)).collect();
                    let tuple = tuple(client, port);
                    let placed = one.place(&tuple);
                    let picked = one.pick(&tuple);
                    if matches!(kind, SchedulerKind::Sh | SchedulerKind::Mh) {
                        prop_assert_eq!(placed, picked);
                    } else {
                        prop_assert_eq!(placed, None);
                        let trial_due = down_until.iter().any(|until| until.is_some_and(|until| until <= now));
                        let is_trial = picked.is_some_and(|picked| down_until[picked].is_some());
                        prop_assert_eq!(trial_due, is_trial);
                    }
                    prop_assert_eq!(picked.is_some(), available.contains(&true));
                    if let Some(picked) = picked {
                        prop_assert!(available[picked]);
                        if let Some(until) = &mut down_until[picked] {
                            *until = now + 10;
                        }
                        one.open(picked);
                    }
                }
                Event::Accepted(place) => {
                    one.accept(place);
                    down_until[place] = None;
                }
                Event::Refused(place) => {
                    one.refuse(place);
                    down_until[place] = Some(now + 10);
                }
                Event::Closed(place) => one.close(place),
                Event::Passes(seconds) => {
                    now += seconds;
                    one.now = Instant::START + Duration::from_secs(now);
                }
            }
        }
    }
}
