//! Links, addresses and routes over netlink.

use fourseven::io::IoError;
use fourseven::io::host::Route;

use super::namespace::{Namespace, private};

#[test]
fn a_veth_pair_joins_two_namespaces_with_addresses_and_routes_of_both_families() {
    private("links::a_veth_pair_joins_two_namespaces_with_addresses_and_routes_of_both_families", || {
        let (here, there) = (Namespace::new(), Namespace::new());
        let pid = there.pid;
        here.netlink(move |net| {
            net.add_veth("a", "b").unwrap();
            net.move_to_pid("b", pid).unwrap();
            assert_eq!(net.index_of("b").unwrap(), None, "b has left");
            net.rename("a", "left").unwrap();
            net.set_mtu("left", 1400).unwrap();
            net.set_txqueuelen("left", 77).unwrap();
            net.set_up("left").unwrap();
            assert_eq!((net.is_up("left").unwrap(), net.mtu("left").unwrap()), (Some(true), Some(1400)));
            net.add_address("left", "10.47.2.1/32".parse().unwrap()).unwrap();
            net.add_address("left", "fd47:2::1/128".parse().unwrap()).unwrap();
            net.add_route(&Route::on("10.47.2.2/32".parse().unwrap(), "left")).unwrap();
            net.add_route(&Route::on("fd47:2::2/128".parse().unwrap(), "left")).unwrap();
        });
        there.netlink(|net| {
            net.set_up("b").unwrap();
            net.add_address("b", "10.47.2.2/32".parse().unwrap()).unwrap();
            net.add_address("b", "fd47:2::2/128".parse().unwrap()).unwrap();
            net.add_route(&Route::on("10.47.2.1/32".parse().unwrap(), "b")).unwrap();
            net.add_route(&Route::on("fd47:2::1/128".parse().unwrap(), "b")).unwrap();
            net.add_route(&Route::via("0.0.0.0/0".parse().unwrap(), "10.47.2.1".parse().unwrap())).unwrap();
            net.add_route(&Route::via("::/0".parse().unwrap(), "fd47:2::1".parse().unwrap())).unwrap();
            let via_nowhere = Route {
                on_link: true,
                device: Some("b".into()),
                ..Route::via("10.9.0.0/16".parse().unwrap(), "192.0.2.1".parse().unwrap())
            };
            net.add_route(&via_nowhere).unwrap();
        });
        for target in ["10.47.2.1", "fd47:2::1"] {
            there.command(&format!("ping -c 1 -W 2 {target}"));
        }
        here.netlink(|net| net.delete_link("left").unwrap());
        assert_eq!(there.netlink(|net| net.index_of("b").unwrap()), None, "the peer goes too");
    });
}

#[test]
fn a_step_that_fails_says_what_it_was_and_why() {
    private("links::a_step_that_fails_says_what_it_was_and_why", || {
        let errors = Namespace::new().netlink(|net| {
            net.add_veth("a", "b").unwrap();
            [
                net.add_veth("a", "c").unwrap_err(),
                net.set_up("nowhere").unwrap_err(),
                net.set_mtu("a", 1).unwrap_err(),
                net.move_to_pid("a", u32::MAX >> 1).unwrap_err(),
                net.add_route(&Route::via("0.0.0.0/0".parse().unwrap(), "192.0.2.1".parse().unwrap()))
                    .unwrap_err(),
            ]
            .map(|error: IoError| error.to_string())
        });
        for (said, expected) in errors.iter().zip([
            "cannot make the veth pair a and c: File exists",
            "cannot set nowhere up: there is no link of the name nowhere",
            "cannot set the MTU of a to 1: Invalid argument",
            "cannot move a into the network namespace of process 2147483647: No such process",
            "cannot add the route to 0.0.0.0/0 via 192.0.2.1: Network is unreachable",
        ]) {
            assert!(said.starts_with(expected), "{said}");
        }
    });
}
