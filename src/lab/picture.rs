//! The network as a picture in text.

use super::topology::{self, Topology};
use crate::packet::Family;

/// Where the backends' branches start.
const TRUNK: usize = 41;
/// With more backends than this, only the first few and the last are drawn.
const MOST: usize = 5;

/// Draws the network.
pub fn draw(topology: Topology) -> Vec<String> {
    let [v4, v6] = [Family::V4, Family::V6];
    let left = [
        "  client ───────────── balancer ─────────".to_owned(),
        format!("  {:<20} TUN {}", topology.client(v4), topology::TUN),
        format!("  {:<20} VIP {}", topology.client(v6), topology.vip(v4)),
        format!("  {:<20} VIP {}", "", topology.vip(v6)),
    ];
    let right = branches(topology);
    let lines = left.iter().map(Some).chain(std::iter::repeat(None));
    let branches = right.iter().map(Some).chain(std::iter::repeat(None));
    lines
        .zip(branches)
        .take(left.len().max(right.len()))
        .map(|(left, right)| {
            let left = left.map_or("", String::as_str);
            let line = format!("{left:<TRUNK$}{}", right.map_or("", String::as_str));
            line.trim_end().to_owned()
        })
        .collect()
}

fn branches(topology: Topology) -> Vec<String> {
    let mut lines: Vec<_> = topology
        .backends()
        .map(|number| {
            let [v4, v6] =
                [Family::V4, Family::V6].map(|family| topology.backend(family, number).to_string());
            format!("{:<11} {v4:<11} {v6}", Topology::backend_name(number))
        })
        .collect();
    if lines.len() > MOST {
        lines.drain(MOST - 2..lines.len() - 1);
        lines.insert(MOST - 2, "…".into());
    }
    let last = lines.len().saturating_sub(1);
    for (place, line) in lines.iter_mut().enumerate() {
        let branch = match (place, last) {
            (0, 0) => "──",
            (0, _) => "┬─",
            _ if place == last => "└─",
            _ => "├─",
        };
        line.insert_str(0, &format!("{branch} "));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_backends_makes_a_picture_that_fits() {
        for (backends, lines, last) in [(1, 4, "backend-1 "), (3, 4, "backend-3 "), (16, 5, "backend-16 ")] {
            let picture = draw(Topology::new(backends).unwrap());
            assert_eq!(picture.len(), lines, "{picture:#?}");
            assert!(picture.iter().any(|line| line.contains(last)), "{picture:#?}");
            assert!(picture.iter().all(|line| line.chars().count() <= 80), "{picture:#?}");
        }
    }
}
