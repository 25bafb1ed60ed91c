//! Backends that go while they are in use: their clients are told, at once, and never left in silence.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use fourseven::lab::attempt::{Attempt, End, Try};
use fourseven::lab::client;
use fourseven::lab::topology::{ECHO, HTTP};
use fourseven::packet::Family;

use super::balancer::{Balancer, NATS};
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::traffic::PATIENCE;

fn web(net: &Net, family: Family) -> Try {
    Try::Http(SocketAddr::new(net.topology.vip(family), HTTP))
}

fn echo(net: &Net, family: Family) -> Try {
    Try::Datagram(SocketAddr::new(net.topology.vip(family), ECHO))
}

/// So many tries, one after the other. Each must come to an end at once: those that the network sends
/// again do so after a second.
fn in_turn(net: &Net, count: usize, what: Try) -> Vec<End> {
    let attempt = |_| {
        let attempt = net.attempt(what);
        assert!(attempt.micros < 900_000, "{what:?}: {attempt:?}");
        attempt.end
    };
    (0..count).map(attempt).collect()
}

/// So many tries at the same time.
fn at_once(net: &Net, count: usize, what: Try) -> Vec<Attempt> {
    net.client.run(move || {
        let tries: Vec<_> = (0..count).map(|_| thread::spawn(move || client::attempt(what))).collect();
        tries.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    })
}

/// After a backend has gone, of two: new flows get this end, or an answer from the other, and after three such
/// ends in a row nobody is sent to the dead one any more.
fn is_left_out(net: &Net, what: Try, end: &End) {
    let ends = in_turn(net, 12, what);
    let failed = ends.iter().filter(|&came| came == end).count();
    let answered = ends.iter().filter(|end| matches!(end, End::Answered { .. })).count();
    assert_eq!((failed, answered), (3, 9), "{what:?}: {ends:?}");
}

#[test]
fn a_backend_whose_process_ends_refuses_and_is_left_out() {
    private("gone::a_backend_whose_process_ends_refuses_and_is_left_out", || {
        let mut net = Net::new(2);
        for nat in NATS {
            let balancer = Balancer::start(&net, nat, &[]);
            for family in FAMILIES {
                let Try::Http(at) = web(&net, family) else { unreachable!() };
                // One connection to each, half a request sent.
                let open = |_| {
                    net.client.run(move || {
                        let mut stream = TcpStream::connect(at).unwrap();
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
                        stream
                    })
                };
                let mut open: Vec<_> = (0..2).map(open).collect();
                net.backends[0].serving = None;
                let mut end = [0; 100];
                let ended = open.iter_mut().filter_map(|stream| {
                    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                    // The end of the stream, or a reset.
                    stream.read(&mut end).map_or_else(
                        |error| (error.kind() == std::io::ErrorKind::ConnectionReset).then_some(()),
                        |length| (length == 0).then_some(()),
                    )
                });
                assert_eq!(ended.count(), 1, "{nat} {at}: of two connections, that of the one that ended");
                is_left_out(&net, web(&net, family), &End::Refused);
                net.backends[0].serve(net.topology, super::net::Listens::All);
            }
            let report = balancer.stop();
            let refused = report.0["services"][0]["backends"].as_array().unwrap();
            let refused: Vec<_> =
                refused.iter().map(|backend| backend["refused"].as_u64().unwrap()).collect();
            assert_eq!(refused, [3, 0, 3, 0], "{nat}");
        }
    });
}

#[test]
fn a_backend_that_loses_power_is_unreachable_and_is_left_out() {
    private("gone::a_backend_that_loses_power_is_unreachable_and_is_left_out", || {
        for nat in NATS {
            let mut net = Net::new(2);
            let balancer = Balancer::start(&net, nat, &["--io=offload", "--queues=2"]);
            for family in FAMILIES {
                assert!(
                    in_turn(&net, 2, web(&net, family)).iter().all(|end| matches!(end, End::Answered { .. }))
                );
            }
            net.lose(1);
            for family in FAMILIES {
                is_left_out(&net, web(&net, family), &End::Unreachable);
            }
            balancer.stop();
        }
    });
}

#[test]
fn where_the_last_backend_loses_power_everybody_is_told_however_many_ask_at_once() {
    private("gone::where_the_last_backend_loses_power_everybody_is_told_however_many_ask_at_once", || {
        for nat in NATS {
            let mut net = Net::new(1);
            let balancer = Balancer::start(&net, nat, &[]);
            net.lose(1);
            for family in FAMILIES {
                // The host reports no more than some errors to one client at a time. Whom it leaves out asks
                // again after a second, when the backend is known to be down.
                let ends = at_once(&net, 30, web(&net, family));
                let told = |attempt: &Attempt| matches!(attempt.end, End::Refused | End::Unreachable);
                assert!(ends.iter().all(told), "{nat} {family:?}: {ends:?}");
                assert_eq!(in_turn(&net, 3, web(&net, family)), [const { End::Refused }; 3], "{nat}");
            }
            let report = balancer.stop();
            assert!(report.reason("answered", "no_backend") >= 6, "{}", report.0);
        }
    });
}

#[test]
fn who_sends_datagrams_to_a_backend_that_has_lost_power_is_told_as_well() {
    private("gone::who_sends_datagrams_to_a_backend_that_has_lost_power_is_told_as_well", || {
        for nat in NATS {
            let mut net = Net::new(1);
            let balancer = Balancer::start(&net, nat, &[]);
            assert!(FAMILIES.into_iter().all(|family| net.attempt(echo(&net, family)).answered()), "{nat}");
            net.lose(1);
            for family in FAMILIES {
                assert_eq!(in_turn(&net, 4, echo(&net, family)), [const { End::Unreachable }; 4], "{nat}");
            }
            assert_eq!(balancer.stop().reason("forwarded", "icmp_error"), 8, "{nat}");
        }
    });
}
