//! What it costs to build a Maglev table, and to pick a backend by each scheduler.
//!
//! The paper (NSDI 2016, §5.3) builds 65,537 slots in 1.8 ms. A pick happens once a flow.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::{SeedableRng, rngs::StdRng};

use fourseven::balance::maglev::Maglev;
use fourseven::balance::{BackendSpec, Balancer, Listen, PassiveHealth, SchedulerKind, ServiceSpec, Weight};
use fourseven::datapath::{BackendId, Instant, Nat};
use fourseven::packet::{Endpoint, FiveTuple, Protocol};

fn backends(count: u16) -> Vec<(Endpoint, Weight)> {
    let endpoint = |i| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + i), 8080)).into();
    (1..=u32::from(count)).map(|i| (endpoint(i), Weight::ONE)).collect()
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("maglev/build");
    for count in [3, 100, 1000] {
        let backends = backends(count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| Maglev::new(black_box(&backends)));
        });
    }
    group.finish();
}

fn pick(c: &mut Criterion) {
    let vip: SocketAddr = "203.0.113.1:80".parse().expect("a socket address");
    let listen = Listen { protocol: Protocol::Tcp, endpoint: vip.into() };
    for (count, down) in [(3, 0), (100, 0), (1000, 0), (100, 50)] {
        let mut group = c.benchmark_group(format!("pick/{count} backends, {down} down"));
        for &scheduler in SchedulerKind::ALL {
            let service = ServiceSpec {
                name: "bench".to_owned(),
                listen: vec![listen],
                nat: Nat::Full,
                scheduler,
                backends: backends(count)
                    .into_iter()
                    .map(|(endpoint, weight)| BackendSpec { endpoint, weight, drain: false })
                    .collect(),
            };
            let passive = PassiveHealth { fall: 1, retry: Duration::from_secs(10) };
            let balancer = Balancer::new(vec![service], passive, 1).expect("a correct service");
            for backend in 0..down {
                balancer.refused(Instant::START, BackendId(backend));
            }
            let vip = balancer.find(listen.protocol, listen.endpoint).expect("the listen above");
            let mut chance = StdRng::seed_from_u64(1);
            let mut client = 0;
            group.bench_function(scheduler.word(), |b| {
                b.iter(|| {
                    client = (client + 1) & 0xffff;
                    let source = SocketAddr::from((Ipv4Addr::from(0xc633_0000 + client), 40_000)).into();
                    let tuple = FiveTuple { protocol: Protocol::Tcp, source, destination: listen.endpoint };
                    balancer.pick(Instant::START, vip, black_box(&tuple), &mut chance)
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = build, pick
}
criterion_main!(benches);
