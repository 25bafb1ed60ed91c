//! What the translator says of its decisions, where somebody listens.

use super::*;
use crate::datapath::{Decision, Listening, Side};

fn listening() -> Rig {
    let mut rig = Plan::default().build();
    rig.translators[0].listen(Listening::Yes);
    rig
}

/// What was said of the last packet: the side, why that backend, and the states before and after.
type Said = (Side, Option<&'static str>, Option<&'static str>, Option<&'static str>);

fn said(rig: &Rig) -> Said {
    let Decision { side, why, before, after, .. } = rig.translators[0].decision();
    (side, why, before, after)
}

#[test]
fn each_packet_of_a_flow_says_which_flow_which_backend_and_how_far_it_has_come() {
    let mut rig = listening();
    let (_, out) = rig.send(0, &tcp(CLIENT, VIP, "S", b""));
    assert_eq!(said(&rig), (Side::Client, Some("rr"), None, Some("opening")));
    let Decision { flow, service, backend, .. } = rig.translators[0].decision();
    assert_eq!((service, backend), (Some(socket(VIP).into()), Some(socket(BACKENDS[0]).into())));
    assert_eq!(flow.unwrap().to_string(), "0.0.0");
    let there = seen(&out);
    let (backend_at, local) = (there.destination.to_string(), there.source.to_string());
    let bound = Some(Decision::BOUND);
    for (from, to, flags, side, before, after) in [
        (backend_at.as_str(), local.as_str(), "SA", Side::Backend, "opening", "answered"),
        (CLIENT, VIP, "A", Side::Client, "answered", "established"),
        (&backend_at, &local, "FA", Side::Backend, "established", "closing"),
        (CLIENT, VIP, "FA", Side::Client, "closing", "closed"),
    ] {
        let _ = rig.send(0, &tcp(from, to, flags, b""));
        assert_eq!(said(&rig), (side, bound, Some(before), Some(after)), "{flags} from {from}");
        assert_eq!(rig.translators[0].decision().flow, flow);
    }
    // The client begins anew: another flow in the same place.
    let _ = rig.send(0, &tcp(CLIENT, VIP, "S", b""));
    let Decision { flow: again, before, after, .. } = rig.translators[0].decision();
    assert_eq!((before, after), (Some("closed"), Some("opening")));
    assert_ne!(again, flow);
}

#[test]
fn packets_of_no_flow_say_what_is_known_of_them_and_nothing_of_the_one_before() {
    let mut rig = listening();
    let _ = rig.send(0, &tcp(CLIENT, VIP, "S", b""));
    let nothing = (Side::Client, None, None, None);
    let _ = rig.send(0, &tcp(CLIENT, "203.0.113.1:81", "S", b""));
    assert_eq!(said(&rig), nothing);
    let _ = rig.send(0, b"no packet");
    assert_eq!(said(&rig), nothing);
    let _ = rig.send(0, &tcp("198.51.100.9:1", VIP, "A", b"in mid-flow"));
    assert_eq!(rig.translators[0].decision().service, Some(socket(VIP).into()));
    let _ = rig.send(0, &udp(BACKENDS[0], "10.9.0.1:5000", b"a late answer"));
    assert_eq!(said(&rig), (Side::Backend, None, None, None));
}

#[test]
fn nothing_is_said_where_nobody_listens() {
    let mut rig = Plan::default().build();
    let _ = rig.send(0, &tcp(CLIENT, VIP, "S", b""));
    assert_eq!(rig.translators[0].decision(), Decision::default());
}
