//! What each scheduler promises, one scheduler after the other.

use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::SchedulerKind;
use crate::balance::BackendSpec;
use crate::balance::tests::{One, PASSIVE, backend, tuple, v4};
use crate::datapath::Instant;
use crate::packet::{FiveTuple, Protocol};

/// How often each of the backends is picked in so many picks that open no flow.
fn counts(one: &mut One, backends: usize, picks: u32) -> Vec<u32> {
    let mut counts = vec![0; backends];
    for client in 0..picks {
        counts[one.pick(&tuple(client, 40_000)).unwrap()] += 1;
    }
    counts
}

fn spread(counts: impl IntoIterator<Item = u32> + Clone) -> u32 {
    counts.clone().into_iter().max().unwrap() - counts.into_iter().min().unwrap()
}

#[test]
fn words_are_written_as_they_are_read() {
    for &kind in SchedulerKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let error = "maglev".parse::<SchedulerKind>().unwrap_err().to_string();
    let words: Vec<_> = SchedulerKind::ALL.iter().map(|kind| kind.word()).collect();
    assert_eq!(error, format!("there is no scheduler `maglev` (there are {})", words.join(", ")));
}

#[test]
fn rr_differs_by_at_most_one() {
    for backends in [1, 2, 3, 7, 100] {
        let mut one = One::new(SchedulerKind::Rr, &vec![5; backends]);
        for picks in [1, 2, 50, 101, 333] {
            let counts = counts(&mut one, backends, picks);
            assert!(spread(counts.clone()) <= 1, "{picks} picks: {counts:?}");
        }
    }
}

#[test]
fn rr_differs_by_at_most_one_over_those_that_are_up() {
    let mut one = One::new(SchedulerKind::Rr, &[1; 7]);
    counts(&mut one, 7, 5);
    one.refuse(2);
    one.refuse(3);
    let counts = counts(&mut one, 7, 1001);
    assert_eq!((counts[2], counts[3]), (0, 0));
    let up = [0, 1, 4, 5, 6].map(|place| counts[place]);
    assert!(spread(up) <= 1, "the neighbour of one that is down gets more: {counts:?}");
}

proptest! {
    #[test]
    fn wrr_is_exact_in_each_cycle(
        weights in prop::collection::vec(1_u16..30, 1..12),
        down in prop::collection::vec(any::<bool>(), 12),
    ) {
        let mut one = One::new(SchedulerKind::Wrr, &weights);
        counts(&mut one, weights.len(), 5);
        let mut want: Vec<_> = weights.iter().copied().map(u32::from).collect();
        for (place, want) in want.iter_mut().enumerate().skip(1) {
            if down[place] {
                one.refuse(place);
                *want = 0;
            }
        }
        if !down[1..weights.len()].contains(&true) {
            // No new cycle has begun: this ends the one that has.
            let cycle: u32 = want.iter().sum();
            counts(&mut one, weights.len(), (cycle - 5 % cycle) % cycle);
        }
        for cycle in 0..3 {
            let counts = counts(&mut one, weights.len(), want.iter().sum());
            prop_assert_eq!(&counts, &want, "cycle {}", cycle);
        }
    }

    #[test]
    fn wrr_is_never_far_from_its_share(weights in prop::collection::vec(1_u16..30, 1..12)) {
        let mut one = One::new(SchedulerKind::Wrr, &weights);
        let sum: i64 = weights.iter().copied().map(i64::from).sum();
        let others = i64::try_from(weights.len()).unwrap() - 1;
        let mut counts = vec![0; weights.len()];
        for picks in 1..=2 * sum {
            counts[one.pick(&tuple(0, 1)).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                // Within one flow of `picks × weight / sum` for each other member.
                let off = (count * sum - picks * i64::from(*weight)).abs();
                prop_assert!(off <= sum * others, "{:?} after {} picks", counts, picks);
            }
        }
    }
}

#[test] // the example with which nginx introduced the algorithm
fn wrr_interleaves() {
    let mut one = One::new(SchedulerKind::Wrr, &[5, 1, 1]);
    let cycle: Vec<_> = (0..7).map(|_| one.pick(&tuple(0, 1)).unwrap()).collect();
    assert_eq!(cycle, [0, 0, 1, 0, 2, 0, 0]);
}

/// A step in the life of a service whose flows last a while.
#[derive(Clone, Debug)]
enum Step {
    Open,
    /// Ends a flow of this backend, if it has one.
    Close(usize),
    Down(usize),
    Up(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Open),
        5 => (0_usize..8).prop_map(Step::Close),
        1 => (0_usize..8).prop_map(Step::Down),
        1 => (0_usize..8).prop_map(Step::Up),
    ]
}

proptest! {
    /// The model knows all flows and looks at all backends, with fractions of 128 bits.
    #[test]
    fn lc_and_wlc_pick_whom_a_look_at_all_backends_finds(
        by_weight in any::<bool>(),
        weights in prop::collection::vec(1_u16.., 1..8),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let kind = if by_weight { SchedulerKind::Wlc } else { SchedulerKind::Lc };
        let mut one = One::new(kind, &weights);
        let mut flows = vec![0_u128; weights.len()];
        let mut up = vec![true; weights.len()];
        for step in steps {
            match step {
                Step::Open => {
                    let picked = one.pick(&tuple(0, 1));
                    prop_assert_eq!(picked.is_some(), up.contains(&true));
                    let Some(picked) = picked else { continue };
                    prop_assert!(up[picked]);
                    let weight = |place: usize| if by_weight { u128::from(weights[place]) } else { 1 };
                    for place in (0..weights.len()).filter(|place| up[*place]) {
                        prop_assert!(
                            flows[picked] * weight(place) <= flows[place] * weight(picked),
                            "{} of {:?} with {:?}", picked, flows, weights
                        );
                    }
                    one.open(picked);
                    flows[picked] += 1;
                }
                Step::Close(place) if flows.get(place).is_some_and(|flows| *flows > 0) => {
                    one.close(place);
                    flows[place] -= 1;
                }
                Step::Down(place) if place < up.len() => {
                    one.refuse(place);
                    up[place] = false;
                }
                Step::Up(place) if place < up.len() => {
                    one.accept(place);
                    up[place] = true;
                }
                Step::Close(_) | Step::Down(_) | Step::Up(_) => {}
            }
        }
    }

    #[test]
    fn lc_gives_idle_backends_the_same_whatever_went_before(
        steps in prop::collection::vec(0_usize..8, 0..100),
        busy in prop::collection::vec(any::<bool>(), 8),
    ) {
        let mut one = One::new(SchedulerKind::Lc, &[1; 8]);
        for place in steps {
            // Some history: while one backend is busy, a flow comes and goes.
            one.open(place);
            one.pick(&tuple(0, 1));
            one.close(place);
        }
        for (place, _) in busy.iter().enumerate().skip(1).filter(|(_, busy)| **busy) {
            one.open(place);
        }
        let counts = counts(&mut one, 8, 800);
        let idle = (0..8).filter(|place| *place == 0 || !busy[*place]);
        let idle: Vec<_> = idle.map(|place| counts[place]).collect();
        prop_assert_eq!(idle.iter().sum::<u32>(), 800);
        prop_assert!(spread(idle) <= 2, "{:?}", counts);
    }
}

#[test]
fn lc_takes_idle_backends_in_turn() {
    let mut one = One::new(SchedulerKind::Lc, &[9, 1, 1, 1]);
    let picks: Vec<_> = (0..8).map(|_| one.pick(&tuple(0, 1)).unwrap()).collect();
    assert_eq!(picks, [0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn wlc_shares_out_by_weight_also_while_all_are_idle() {
    let mut one = One::new(SchedulerKind::Wlc, &[1, 2, 5]);
    assert_eq!(counts(&mut one, 3, 8 * 50), [50, 100, 250]);
    let mut filled = [0; 3];
    for _ in 0..8 * 50 {
        let picked = one.pick(&tuple(0, 1)).unwrap();
        one.open(picked);
        filled[picked] += 1;
    }
    assert_eq!(filled, [50, 100, 250]);
}

#[test]
fn a_backend_that_comes_back_idle_is_not_given_all_it_missed() {
    let mut one = One::new(SchedulerKind::Lc, &[1; 3]);
    one.refuse(0);
    counts(&mut one, 3, 1000);
    one.accept(0);
    let counts = counts(&mut one, 3, 300);
    assert!(spread(counts.clone()) <= 2, "{counts:?}");
}

#[test] // Mitzenmacher: the fullest has log log n more than the average, where one choice gives log n more
fn p2c_keeps_the_imbalance_small() {
    for seed in 0..20 {
        let mut one = One::new(SchedulerKind::P2c, &[1; 100]);
        one.chance = StdRng::seed_from_u64(seed);
        let mut flows = [0; 100];
        for _ in 0..100 * 100 {
            let picked = one.pick(&tuple(0, 1)).unwrap();
            one.open(picked);
            flows[picked] += 1;
        }
        let most = flows.iter().max().unwrap();
        // One choice would bring the fullest to about 125.
        assert!(*most <= 104, "seed {seed}: {most} flows where the average is 100");
    }
}

#[test]
fn p2c_keeps_the_imbalance_small_by_weight_and_with_some_down() {
    for seed in 0..20 {
        let mut one = One::new(SchedulerKind::P2c, &[1, 2, 4, 8, 16, 1, 2, 4, 8, 16]);
        one.chance = StdRng::seed_from_u64(seed);
        (5..10).for_each(|place| one.refuse(place));
        let mut flows = [0_u32; 10];
        for _ in 0..31 * 100 {
            let picked = one.pick(&tuple(0, 1)).unwrap();
            one.open(picked);
            flows[picked] += 1;
        }
        for (place, count) in flows.iter().enumerate() {
            let want = if place < 5 { 100 << place } else { 0 };
            assert!(count.abs_diff(want) <= 5 * want / 100, "seed {seed}: {flows:?}");
        }
    }
}

#[test]
fn p2c_compares_two_different_backends() {
    let mut one = One::new(SchedulerKind::P2c, &[1, 1]);
    one.open(0);
    assert_eq!(counts(&mut one, 2, 200), [0, 200]);
    // With everybody idle, chance and weight alone decide.
    let mut one = One::new(SchedulerKind::P2c, &[1, 3]);
    let counts = counts(&mut one, 2, 10_000);
    assert!(counts[0].abs_diff(2500) < 200, "{counts:?}");
}

#[test]
fn p2c_finds_the_one_that_is_up() {
    let mut one = One::new(SchedulerKind::P2c, &[100; 50]);
    (0..49).for_each(|place| one.refuse(place));
    assert_eq!(counts(&mut one, 50, 100)[49], 100);
}

#[test]
fn sh_keeps_a_client_where_it_is() {
    let mut one = One::new(SchedulerKind::Sh, &[1; 10]);
    for client in 0..500 {
        let first = one.pick(&tuple(client, 1));
        let udp = FiveTuple { protocol: Protocol::Udp, ..tuple(client, 9) };
        for again in [tuple(client, 2), tuple(client, 65_535), udp] {
            assert_eq!(one.pick(&again), first);
        }
    }
}

/// Where each of so many clients goes.
fn picks(one: &mut One, clients: u32) -> Vec<usize> {
    (0..clients).map(|client| one.pick(&tuple(client, 40_000)).unwrap()).collect()
}

#[test]
fn hashes_share_out_by_weight() {
    for kind in [SchedulerKind::Sh, SchedulerKind::Mh] {
        let weights = [1, 2, 3, 10, 4];
        let counts = counts(&mut One::new(kind, &weights), 5, 40_000);
        for (count, weight) in counts.iter().zip(weights) {
            let want = f64::from(weight) * 2000.0;
            // Chance moves a count by its square root or so.
            assert!((f64::from(*count) - want).abs() < 4.0 * want.sqrt(), "{kind}: {counts:?}");
        }
    }
}

fn specs(weights: &[u16]) -> Vec<BackendSpec> {
    weights.iter().enumerate().map(|(i, weight)| backend(v4(i), *weight)).collect()
}

#[test]
fn sh_moves_only_the_clients_of_a_backend_that_is_removed() {
    let specs = specs(&[1, 2, 3, 1, 2, 3, 1, 2, 3, 1]);
    let before = picks(&mut One::of(SchedulerKind::Sh, specs.clone()), 10_000);
    let mut rest = specs;
    rest.remove(4);
    let after = picks(&mut One::of(SchedulerKind::Sh, rest), 10_000);
    let mut gained = [0_u32; 9];
    for (before, after) in before.into_iter().zip(after) {
        match before {
            4 => gained[after] += 1,
            old => assert_eq!(after, old - usize::from(old > 4)),
        }
    }
    assert!(gained.iter().all(|gained| *gained > 20), "they must spread over all the others: {gained:?}");
}

#[test]
fn sh_with_more_weight_takes_from_all_and_gives_to_none() {
    let before = picks(&mut One::new(SchedulerKind::Sh, &[2, 2, 2, 2]), 10_000);
    let after = picks(&mut One::new(SchedulerKind::Sh, &[2, 3, 2, 2]), 10_000);
    for (before, after) in before.into_iter().zip(after) {
        assert!(after == before || after == 1, "{before} to {after}");
    }
}

#[test]
fn a_backend_that_goes_down_moves_nobody_elses_flows_and_gets_its_own_back() {
    for kind in [SchedulerKind::Sh, SchedulerKind::Mh] {
        let mut one = One::new(kind, &[1, 1, 1, 1, 4, 4]);
        let before = picks(&mut one, 20_000);
        one.refuse(1);
        one.refuse(5);
        let mut gained = [0_u32; 6];
        for (before, during) in before.iter().zip(picks(&mut one, 20_000)) {
            match before {
                1 | 5 => gained[during] += 1,
                up => assert_eq!(during, *up, "{kind}"),
            }
        }
        // Those of the two that are down are shared out by weight: 1 : 1 : 1 : 4.
        let share = gained.iter().sum::<u32>() / 7;
        for (gained, weight) in gained.into_iter().zip([1, 0, 1, 1, 4, 0]) {
            assert!(
                gained.abs_diff(share * weight) <= share / 10 * weight,
                "{kind}: {gained} of {share} × {weight}"
            );
        }
        one.accept(1);
        one.accept(5);
        assert_eq!(picks(&mut one, 20_000), before, "{kind}");
    }
}

#[test]
fn mh_finds_the_one_of_a_thousand_that_is_up() {
    let mut one = One::new(SchedulerKind::Mh, &[1; 1000]);
    (0..1000).filter(|place| *place != 567).for_each(|place| one.refuse(place));
    assert!(picks(&mut one, 200).iter().all(|picked| *picked == 567));
    one.refuse(567);
    assert_eq!(one.pick(&tuple(1, 1)), None);
}

#[test]
fn mh_tells_the_flows_of_a_client_apart() {
    let mut one = One::new(SchedulerKind::Mh, &[1; 4]);
    let mut counts = [0_u32; 4];
    (1..4001).for_each(|port| counts[one.pick(&tuple(7, port)).unwrap()] += 1);
    assert!(counts.iter().all(|count| count.abs_diff(1000) < 120), "{counts:?}");
}

#[test]
fn hashes_agree_whatever_the_order_and_the_seed() {
    for kind in [SchedulerKind::Sh, SchedulerKind::Mh] {
        let specs = specs(&[1, 2, 3, 4, 1, 2, 3, 4, 1, 1]);
        let mut reversed = specs.clone();
        reversed.reverse();
        let (mut here, mut there) = (One::of(kind, specs), One::of(kind, reversed));
        there.chance = StdRng::seed_from_u64(there.chance.random());
        for client in 0..2000 {
            let tuple = tuple(client, 40_000);
            let picked = here.pick(&tuple).unwrap();
            assert_eq!(there.pick(&tuple), Some(9 - picked));
            assert_eq!(there.place(&tuple), Some(9 - picked));
        }
    }
}

#[test]
fn a_backend_that_was_down_is_tried_by_one_flow_at_a_time() {
    for &kind in SchedulerKind::ALL {
        let mut one = One::new(kind, &[1; 4]);
        one.refuse(2);
        let due = one.now + PASSIVE.retry;
        one.now = Instant::from_nanos(due.as_nanos() - 1);
        assert_eq!(counts(&mut one, 4, 400)[2], 0, "{kind}: before its time");
        one.now = due;
        assert_eq!(counts(&mut one, 4, 400)[2], 1, "{kind}: at its time");
        one.refuse(2);
        assert_eq!(counts(&mut one, 4, 400)[2], 0, "{kind}: after a refused trial");
        one.now = one.now + PASSIVE.retry;
        assert_eq!(counts(&mut one, 4, 400)[2], 1, "{kind}: at its time again");
        one.accept(2);
        assert!(counts(&mut one, 4, 400)[2] > 50, "{kind}: after an accepted trial");
    }
}

#[test]
fn the_hint_of_how_many_are_down_follows_their_health() {
    let one = One::of(SchedulerKind::Rr, {
        let mut specs = specs(&[1; 4]);
        specs[3].drain = true;
        specs
    });
    let down = || one.balancer.services()[0].v4.down.load(Relaxed);
    for (name, event, place, want) in [
        ("a member goes down", One::refuse as fn(&One, usize), 0, 1),
        ("and is refused again", One::refuse, 0, 1),
        ("another one goes down", One::refuse, 2, 2),
        ("one that drains is no member", One::refuse, 3, 2),
        ("nor when it is back", One::accept, 3, 2),
        ("the first is back", One::accept, 0, 1),
        ("and accepted again", One::accept, 0, 1),
        ("one that was never down is accepted", One::accept, 1, 1),
        ("all are back", One::accept, 2, 0),
    ] {
        event(&one, place);
        assert_eq!(down(), want, "{name}");
    }
}

#[test]
fn a_lone_backend_gets_every_flow_until_it_is_down() {
    for &kind in SchedulerKind::ALL {
        let mut one = One::new(kind, &[7]);
        assert_eq!(counts(&mut one, 1, 10), [10], "{kind}");
        one.refuse(0);
        assert_eq!(one.pick(&tuple(1, 1)), None, "{kind}");
    }
}
