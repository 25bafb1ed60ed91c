//! The paper's claims, each against the tables that are really built.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;

fn v4(i: u32) -> Endpoint {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + i), 8080)).into()
}

fn v6(i: u32) -> Endpoint {
    SocketAddr::from((Ipv6Addr::from((0x2001_0db8 << 96) + u128::from(i)), 8080)).into()
}

fn equal(count: u32) -> Vec<(Endpoint, Weight)> {
    (0..count).map(|i| (v4(i), Weight::ONE)).collect()
}

fn weighted(weights: &[u16]) -> Vec<(Endpoint, Weight)> {
    (0..).map(v4).zip(weights.iter().map(|weight| Weight::new(*weight).unwrap())).collect()
}

/// [`SLOTS`], to reckon with.
const ALL: f64 = 65_537.0;

/// How many slots each of `count` backends has.
fn shares(table: &Maglev, count: usize) -> Vec<u32> {
    let mut shares = vec![0; count];
    for owner in table.owners() {
        shares[owner] += 1;
    }
    shares
}

/// The paper's pseudocode 1, word for word, with whole permutations in memory; equal weights.
fn pseudocode(backends: &[(Endpoint, Weight)]) -> Vec<usize> {
    let m = SLOTS as u64;
    let permutation: Vec<Vec<u64>> = backends
        .iter()
        .map(|(name, _)| {
            let offset = hash::endpoint(Use::Offset, *name) % m;
            let skip = hash::endpoint(Use::Skip, *name) % (m - 1) + 1;
            (0..m).map(|j| (offset + j * skip) % m).collect()
        })
        .collect();
    let mut next = vec![0; backends.len()];
    let mut entry = vec![None; SLOTS];
    let mut n = 0;
    loop {
        for i in 0..backends.len() {
            let mut c = permutation[i][next[i]];
            while entry[usize::try_from(c).unwrap()].is_some() {
                next[i] += 1;
                c = permutation[i][next[i]];
            }
            entry[usize::try_from(c).unwrap()] = Some(i);
            next[i] += 1;
            n += 1;
            if n == SLOTS {
                return entry.into_iter().map(Option::unwrap).collect();
            }
        }
    }
}

#[test]
fn the_number_of_slots_is_prime() {
    assert!((2..=256).all(|divisor| !SLOTS.is_multiple_of(divisor)));
}

#[test] // §3.4, pseudocode 1
fn the_table_is_the_one_of_the_papers_pseudocode() {
    for count in [1, 2, 3, 10, 100] {
        let backends = equal(count);
        assert!(Maglev::new(&backends).owners().eq(pseudocode(&backends)), "{count} backends");
    }
}

#[test]
fn no_backends_own_nothing() {
    let table = Maglev::new(&[]);
    assert_eq!((table.owners().len(), table.owner(7)), (0, None));
}

#[test] // §3.4: everybody takes turns
fn equal_weights_differ_by_at_most_one_slot() {
    for count in [1, 2, 3, 7, 100, 655, 1000, 40_000, 65_535] {
        let table = Maglev::new(&equal(count));
        assert_eq!(table.owners().len(), SLOTS);
        let shares = shares(&table, count as usize);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{count} backends have between {least} and {most} slots");
    }
}

#[test] // §3.4: why M should be more than 100 × N
fn a_hundred_times_more_slots_than_backends_keep_shares_within_one_percent() {
    for (family, count) in [(v4 as fn(u32) -> Endpoint, 100), (v6, 100), (v4, 300), (v6, 655)] {
        let backends: Vec<_> = (0..count).map(|i| (family(i), Weight::ONE)).collect();
        let mean = ALL / f64::from(count);
        for share in shares(&Maglev::new(&backends), backends.len()) {
            let error = f64::from(share) / mean - 1.0;
            assert!(error.abs() < 0.01, "{share} slots of {mean} on average: {error}");
        }
    }
}

#[test] // §5.3: the machines that must be there beyond the average load
fn a_thousand_backends_need_less_than_one_percent_more() {
    let most = *shares(&Maglev::new(&equal(1000)), 1000).iter().max().unwrap();
    let over_provision = f64::from(most) * 1000.0 / ALL - 1.0;
    println!("1,000 backends on 65,537 slots: {:.2} % over-provision", over_provision * 100.0);
    assert!(over_provision < 0.01);
}

/// Of the slots whose owners are in both tables, the part that changed hands, and of all slots the part
/// that had to, since their owner is gone. `place` says where a backend of the first
/// table stands in the second.
fn disruption(before: &Maglev, after: &Maglev, place: impl Fn(usize) -> Option<usize>) -> (f64, f64) {
    let (mut kept, mut changed, mut gone) = (0.0, 0.0, 0.0);
    for (old, new) in before.owners().zip(after.owners()) {
        match place(old) {
            Some(old) if old == new => kept += 1.0,
            Some(_) => changed += 1.0,
            None => gone += 1.0,
        }
    }
    (changed / (kept + changed), gone / ALL)
}

#[test] // §3.4 and §5.3: some disruption beside the least that there can be, in exchange for evenness
fn backends_less_leave_nearly_all_of_the_others_slots_alone() {
    for (count, removed, bound) in [
        (2, 1, 0.0),
        (3, 1, 0.001),
        (10, 1, 0.005),
        (100, 1, 0.01),
        (100, 5, 0.02),
        (1000, 1, 0.01),
        (1000, 10, 0.04),
        (1000, 50, 0.05),
    ] {
        let backends = equal(count);
        let table = Maglev::new(&backends);
        let mut worst = (0.0, 0.0);
        for first in [0, (count - removed) / 3, count - removed].map(|first| first as usize) {
            let gone = first..first + removed as usize;
            let mut rest = backends.clone();
            rest.drain(gone.clone());
            let place = |old: usize| match old {
                old if old < gone.start => Some(old),
                old if old < gone.end => None,
                old => Some(old - gone.len()),
            };
            let (changed, had_to) = disruption(&table, &Maglev::new(&rest), place);
            if changed >= worst.0 {
                worst = (changed, had_to);
            }
        }
        let (changed, had_to) = worst;
        println!(
            "{removed} of {count} removed: {:.2} % of the others' slots changed, {:.2} % had to",
            changed * 100.0,
            had_to * 100.0
        );
        assert!(changed <= bound, "{removed} of {count} removed: {changed}");
    }
}

#[test]
fn a_change_of_weight_moves_little_more_than_it_must() {
    let before = weighted(&[10; 20]);
    let mut after = before.clone();
    after[7].1 = Weight::new(20).unwrap();
    let (changed, _) = disruption(&Maglev::new(&before), &Maglev::new(&after), Some);
    let least = 20.0 / 210.0 - 10.0 / 200.0;
    println!("a weight doubled: {:.2} % changed, {:.2} % had to", changed * 100.0, least * 100.0);
    assert!(changed < least + 0.06, "{changed}");
}

#[test]
fn two_balancers_agree_whatever_the_order_of_their_configuration() {
    let backends: Vec<_> = weighted(&[1, 2, 3, 7, 1, 5, 9, 2, 2, 2, 40, 1]);
    let mut shuffled = backends.clone();
    shuffled.reverse();
    shuffled.swap(3, 8);
    let (here, there) = (Maglev::new(&backends), Maglev::new(&shuffled));
    assert!(here == Maglev::new(&backends));
    assert!(here.owners().map(|i| backends[i].0).eq(there.owners().map(|i| shuffled[i].0)));
}

#[test] // the digests come from another implementation, written for the purpose in Python
fn tables_do_not_change_from_version_to_version() {
    for (name, backends, want) in [
        ("equal", equal(3), 0x18dc_d8c7_979e_8c56),
        ("weighted", weighted(&[1, 2, 3, 65_535]), 0xd0ab_683f_2681_fad4),
        ("IPv6", vec![(v6(1), Weight::ONE), (v6(2), Weight::ONE)], 0xe481_23cb_8bf3_fb22),
    ] {
        let digest =
            Maglev::new(&backends).owners().fold(0_u64, |digest, owner| hash::mix(digest ^ owner as u64));
        assert_eq!(digest, want, "{name}: {digest:#x}");
    }
}

#[test]
fn the_lightest_backend_has_a_slot() {
    let mut weights = [65_535; 1000];
    weights[17] = 1;
    let shares = shares(&Maglev::new(&weighted(&weights)), 1000);
    assert_eq!(shares[17], 1);
    assert!(shares.iter().all(|share| *share > 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shares_are_proportional_to_weights(weights in prop::collection::vec(1_u16.., 1..60)) {
        let shares = shares(&Maglev::new(&weighted(&weights)), weights.len());
        prop_assert_eq!(shares.iter().sum::<u32>(), 65_537);
        // After r rounds a backend has had r × weight / greatest weight turns, rounded up; and the
        // last round may not have come to it. So each has at most two slots more than its
        // share, and those are paid for by all.
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        let paid = weights.iter().map(|_| 2.0).sum::<f64>();
        for (share, weight) in shares.iter().zip(&weights) {
            let part = f64::from(*weight) / sum;
            let (share, ideal) = (f64::from(*share), ALL * part);
            prop_assert!(share <= ideal + 2.0, "{} slots instead of {}", share, ideal);
            prop_assert!(share >= ideal - paid * part - 1.0, "{} slots instead of {}", share, ideal);
        }
    }
}
