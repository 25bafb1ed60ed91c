//! Several workers pick from one balancer at the same time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};

use fourseven::balance::{
    Backend, BackendSpec, Balancer, Health, PassiveHealth, SchedulerKind, ServiceSpec, Weight,
};
use fourseven::datapath::{BackendId, Instant, Nat, VipId};
use fourseven::packet::{FiveTuple, Protocol};

const WORKERS: u64 = 4;
const RETRY: Duration = Duration::from_secs(10);

fn balancer(scheduler: SchedulerKind, weights: &[u16]) -> Balancer {
    let backends = (1..).zip(weights).map(|(i, weight)| BackendSpec {
        endpoint: SocketAddr::from((Ipv4Addr::new(10, 0, 0, i), 8080)).into(),
        weight: Weight::new(*weight).unwrap(),
        drain: false,
    });
    let service = ServiceSpec {
        name: "web".to_owned(),
        listen: vec!["tcp/203.0.113.1:80".parse().unwrap()],
        nat: Nat::Full,
        scheduler,
        backends: backends.collect(),
    };
    Balancer::new(vec![service], PassiveHealth { fall: 3, retry: RETRY }, 1).unwrap()
}

fn tuple(port: u16) -> FiveTuple {
    FiveTuple {
        protocol: Protocol::Tcp,
        source: SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), port)).into(),
        destination: "203.0.113.1:80".parse::<SocketAddr>().unwrap().into(),
    }
}

/// Lets all workers pick as often, at `now`, with `also` after each pick, and counts what each backend got.
fn pick_together(balancer: &Balancer, now: Instant, picks: u16, also: impl Fn(BackendId) + Sync) -> Vec<u64> {
    let start = Barrier::new(WORKERS.try_into().unwrap());
    thread::scope(|scope| {
        let work = |seed| {
            let (start, also) = (&start, &also);
            scope.spawn(move || {
                let mut chance = StdRng::seed_from_u64(seed);
                let mut counts = vec![0; balancer.backends().len()];
                start.wait();
                for port in 1..=picks {
                    if let Some(backend) = balancer.pick(now, VipId(0), &tuple(port), &mut chance) {
                        counts[backend.index()] += 1;
                        also(backend);
                    }
                }
                counts
            })
        };
        let workers: Vec<_> = (0..WORKERS).map(work).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).fold(
            vec![0; balancer.backends().len()],
            |mut sum, counts| {
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                sum
            },
        )
    })
}

#[test]
fn rr_of_all_workers_together_differs_by_at_most_one() {
    for backends in [2, 3, 7, 10] {
        let counts =
            pick_together(&balancer(SchedulerKind::Rr, &vec![1; backends]), Instant::START, 5003, |_| {});
        let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        assert!(spread <= 1, "{counts:?}");
    }
}

#[test]
fn wrr_of_all_workers_together_is_exact() {
    let counts = pick_together(&balancer(SchedulerKind::Wrr, &[1, 2, 7]), Instant::START, 5000, |_| {});
    assert_eq!(counts, [2000, 4000, 14_000]);
}

#[test]
fn no_live_flow_is_lost_or_counted_twice() {
    for &scheduler in SchedulerKind::ALL {
        let balancer = balancer(scheduler, &[1, 2, 3]);
        let counts = pick_together(&balancer, Instant::START, 2000, |backend| {
            balancer.opened(backend);
            balancer.opened(backend);
            balancer.closed(backend);
        });
        let live: Vec<_> = balancer.backends().iter().map(Backend::live_flows).map(u64::from).collect();
        assert_eq!(live, counts, "{scheduler}");
        assert_eq!(counts.iter().sum::<u64>(), WORKERS * 2000, "{scheduler}");
    }
}

#[test]
fn lc_of_all_workers_together_stays_level() {
    let balancer = balancer(SchedulerKind::Lc, &[1; 5]);
    let counts = pick_together(&balancer, Instant::START, 5000, |backend| balancer.opened(backend));
    // Between a pick and its report each of the other workers may pick the same backend once; over
    // many rounds that does not add up.
    let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
    assert!(spread <= WORKERS, "{counts:?}");
}

#[test]
fn exactly_one_worker_gets_the_trial() {
    for &scheduler in SchedulerKind::ALL {
        let balancer = balancer(scheduler, &[1; 3]);
        let mut now = Instant::START;
        for _ in 0..3 {
            balancer.refused(now, BackendId(1));
        }
        for _ in 0..20 {
            assert_eq!(pick_together(&balancer, now, 200, |_| {})[1], 0, "{scheduler}");
            now = now + RETRY;
            assert_eq!(pick_together(&balancer, now, 200, |_| {})[1], 1, "{scheduler}");
        }
    }
}

#[test]
fn health_that_all_workers_report_at_once_settles() {
    let balancer = balancer(SchedulerKind::Rr, &[1; 3]);
    pick_together(&balancer, Instant::START, 5000, |backend| {
        for _ in 0..3 {
            balancer.refused(Instant::START, backend);
        }
        balancer.accepted(backend);
    });
    for backend in 0..3 {
        balancer.accepted(BackendId(backend));
    }
    assert!(balancer.backends().iter().all(|backend| backend.health() == Health::Up));
    assert_eq!(pick_together(&balancer, Instant::START, 300, |_| {}), [400, 400, 400]);
}
