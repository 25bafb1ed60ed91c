//! Queues of real devices: what opens, what comes through, what happens when they go.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use fourseven::datapath::{Outcome, Reason};
use fourseven::io::host::Netlink;
use fourseven::io::{IoChoice, IoError, Opened, QueueKind, TunRequest, WorkerOptions, open};

use super::cores::{Reflector, Run};
use super::namespace::{Namespace, private};

fn request(io: IoChoice, queues: usize) -> TunRequest {
    TunRequest { name: "fs0".into(), io, queues }
}

/// Opens fs0, with an address of each family on it.
fn opened(io: IoChoice, queues: usize) -> Opened {
    let opened = open(&request(io, queues)).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    let netlink = Netlink::open().unwrap();
    netlink.set_up("fs0").unwrap();
    netlink.add_address("fs0", "10.9.0.1/24".parse().unwrap()).unwrap();
    netlink.add_address("fs0", "fd09::1/64".parse().unwrap()).unwrap();
    opened
}

/// Sends `bytes` over a TCP connection whose two ends are both here, by way of `peer` behind the device.
fn stream(here: &str, peer: &str, bytes: usize) {
    let listener = TcpListener::bind((here, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer = peer.to_owned();
    let sender = thread::spawn(move || {
        let mut stream = TcpStream::connect((peer.as_str(), port)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let data: Vec<u8> = (0..=250).cycle().take(bytes).collect();
        stream.write_all(&data).unwrap();
    });
    let mut data = Vec::new();
    let mut accepted = listener.accept().unwrap().0;
    accepted.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    accepted.read_to_end(&mut data).unwrap();
    sender.join().unwrap();
    assert_eq!(data.len(), bytes);
    assert!(data.iter().copied().eq((0..=250).cycle().take(bytes)), "the data are what was sent");
}

#[test]
fn ping_udp_and_tcp_of_both_families_come_through_each_kind_of_queue() {
    private("devices::ping_udp_and_tcp_of_both_families_come_through_each_kind_of_queue", || {
        for (io, queues) in [(IoChoice::Plain, 1), (IoChoice::Offload, 1), (IoChoice::Offload, 2)] {
            let namespace = Namespace::new();
            let core = Reflector::default();
            let run = namespace.run({
                let core = core.clone();
                move || Run::start(opened(io, queues), &core, WorkerOptions::default())
            });
            for (here, peer) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
                namespace.command(&format!("ping -c 3 -i 0.01 -W 2 {peer}"));
                namespace.run(move || {
                    let socket = UdpSocket::bind((here, 4000)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    socket.send_to(b"there and back", (peer, 4000)).unwrap();
                    let mut buffer = [0; 64];
                    let (length, from) = socket.recv_from(&mut buffer).unwrap();
                    assert_eq!(
                        (&buffer[..length], from.ip().to_string().as_str()),
                        (&b"there and back"[..], peer)
                    );
                    stream(here, peer, 5_000_000);
                });
            }
            let totals = run.stop();
            let (longest, large) = (core.seen.longest.load(SeqCst), core.seen.large.load(SeqCst));
            println!(
                "{io} x {queues}: {} packets, {large} of them large, the longest {longest}",
                totals.received
            );
            match io {
                IoChoice::Plain => assert_eq!((longest, large), (1500, 0)),
                IoChoice::Auto | IoChoice::Offload => assert!(longest > 20_000 && large > 100),
            }
            assert_eq!(totals.count(Outcome::Dropped, Reason::WriteFailed), 0);
            assert_eq!(totals.count(Outcome::Dropped, Reason::Malformed), 0);
        }
    });
}

#[test]
fn flows_spread_over_the_queues_and_none_is_lost() {
    private("devices::flows_spread_over_the_queues_and_none_is_lost", || {
        Namespace::new().run(|| {
            let run = Run::start(opened(IoChoice::Auto, 2), &Reflector::default(), WorkerOptions::default());
            let sockets: Vec<_> = (0..64)
                .map(|_| {
                    let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    socket
                })
                .collect();
            for round in 0..20_u8 {
                for socket in &sockets {
                    let port = socket.local_addr().unwrap().port();
                    socket.send_to(&[round], ("10.9.0.2", port)).unwrap();
                }
                for socket in &sockets {
                    let mut byte = [0];
                    socket.recv_from(&mut byte).unwrap();
                    assert_eq!(byte, [round]);
                }
            }
            assert!(
                run.received(0) > 100 && run.received(1) > 100,
                "{} and {}",
                run.received(0),
                run.received(1)
            );
            run.stop();
        });
    });
}

#[test]
fn auto_takes_offload_and_says_so_and_plain_has_one_queue() {
    private("devices::auto_takes_offload_and_says_so_and_plain_has_one_queue", || {
        Namespace::new().run(|| {
            let auto = open(&request(IoChoice::Auto, 3)).unwrap();
            assert_eq!((auto.kind, auto.queues.len(), auto.name.as_str()), (QueueKind::Offload, 3, "fs0"));
            assert!(auto.why.starts_with("the kernel passes large TCP"), "{}", auto.why);
            drop(auto);
            let plain = open(&request(IoChoice::Plain, 1)).unwrap();
            assert_eq!(
                (plain.kind, plain.queues.len(), plain.why.as_str()),
                (QueueKind::Plain, 1, "plain was asked for")
            );
            assert!(std::fs::read_to_string("/proc/net/dev").is_ok());
            drop(plain);
            let error = open(&request(IoChoice::Plain, 2)).map(|opened| opened.why).unwrap_err();
            assert!(error.to_string().contains("a plain device has only one"), "{error}");
        });
    });
}

#[test]
fn a_name_that_is_taken_is_told_by_whom() {
    private("devices::a_name_that_is_taken_is_told_by_whom", || {
        Namespace::new().run(|| {
            let netlink = Netlink::open().unwrap();
            netlink.add_veth("fs0", "fs1").unwrap();
            let _held = open(&TunRequest { name: "fs2".into(), io: IoChoice::Auto, queues: 1 }).unwrap();
            for io in IoChoice::ALL {
                for (name, want) in [
                    (
                        "fs0",
                        "the name fs0 is taken: there is a network device of this name that is no TUN device",
                    ),
                    ("fs2", "the name fs2 is taken: another program has this device open"),
                ] {
                    let request = TunRequest { name: name.into(), io, queues: 1 };
                    let said = open(&request).map(|opened| opened.why).unwrap_err().to_string();
                    assert!(said.starts_with(want), "{io}: {said}");
                }
            }
        });
    });
}

#[test]
fn a_persistent_device_that_had_offloads_gives_a_plain_queue_no_large_packets() {
    private("devices::a_persistent_device_that_had_offloads_gives_a_plain_queue_no_large_packets", || {
        let namespace = Namespace::new();
        namespace.command("ip tuntap add dev fs0 mode tun vnet_hdr");
        namespace.run(|| drop(opened(IoChoice::Offload, 1)));
        let core = Reflector::default();
        let run = namespace.run({
            let core = core.clone();
            move || Run::start(open(&request(IoChoice::Plain, 1)).unwrap(), &core, WorkerOptions::default())
        });
        namespace.run(|| stream("10.9.0.1", "10.9.0.2", 1_000_000));
        run.stop();
        assert_eq!(core.seen.longest.load(SeqCst), 1500);
    });
}

#[test]
fn a_deleted_device_ends_the_run_with_its_name_asleep_or_busy() {
    private("devices::a_deleted_device_ends_the_run_with_its_name_asleep_or_busy", || {
        for (io, queues) in [(IoChoice::Plain, 1), (IoChoice::Offload, 1), (IoChoice::Offload, 2)] {
            for busy in [false, true] {
                Namespace::new().run(move || {
                    let run = Run::start(opened(io, queues), &Reflector::default(), WorkerOptions::default());
                    let flood = busy.then(|| {
                        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
                        thread::spawn(move || while socket.send_to(&[0; 900], "10.9.0.2:9").is_ok() {})
                    });
                    thread::sleep(Duration::from_millis(100));
                    Netlink::open().unwrap().delete_link("fs0").unwrap();
                    let deleted = Instant::now();
                    let error = run.end();
                    assert!(matches!(&error, IoError::DeviceGone { name } if name == "fs0"), "{error}");
                    assert!(deleted.elapsed() < Duration::from_secs(1), "it took {:?}", deleted.elapsed());
                    if let Some(flood) = flood {
                        flood.join().unwrap();
                    }
                });
            }
        }
    });
}

#[test]
fn a_device_that_is_down_takes_nothing_and_the_worker_waits_for_better_days() {
    private("devices::a_device_that_is_down_takes_nothing_and_the_worker_waits_for_better_days", || {
        let namespace = Namespace::new();
        let run = namespace
            .run(|| Run::start(opened(IoChoice::Auto, 1), &Reflector::default(), WorkerOptions::default()));
        namespace.command("ping -c 1 -W 2 10.9.0.2");
        let before = run.totals();
        namespace.netlink(|net| net.set_down("fs0").unwrap());
        assert!(!namespace.try_command("ping -c 1 -W 1 10.9.0.2").0);
        namespace.netlink(|net| net.set_up("fs0").unwrap());
        namespace.command("ping -c 1 -W 2 10.9.0.2");
        assert!(run.stop().received > before.received);
    });
}

#[test]
fn a_user_without_the_privilege_is_told_which_one_it_takes() {
    const CHILD: &str = "FOURSEVEN_TEST_UNPRIVILEGED";
    let name = "devices::a_user_without_the_privilege_is_told_which_one_it_takes";
    if std::env::var_os(CHILD).is_some() {
        let said = open(&request(IoChoice::Auto, 1)).map(|opened| opened.why).unwrap_err().to_string();
        let fine = said.contains("it needs CAP_NET_ADMIN") || said.contains("must be readable and writable");
        return assert!(fine && said.contains("/dev/net/tun"), "{said}");
    }
    private(name, || {
        // A user namespace of its own has no say over the network namespace that it is in.
        let test = std::env::current_exe().unwrap();
        let mut unshare = Command::new("unshare");
        unshare.arg("--user").arg(test).args([name, "--exact"]).env(CHILD, "1");
        assert!(unshare.status().unwrap().success());
    });
}

#[test]
fn a_machine_without_the_node_is_told_how_to_get_it() {
    const CHILD: &str = "FOURSEVEN_TEST_NO_NODE";
    let name = "devices::a_machine_without_the_node_is_told_how_to_get_it";
    if std::env::var_os(CHILD).is_some() {
        let said = open(&request(IoChoice::Auto, 1)).map(|opened| opened.why).unwrap_err().to_string();
        return assert!(said.contains("modprobe tun") && said.contains("--device /dev/net/tun"), "{said}");
    }
    private(name, || {
        let test = std::env::current_exe().unwrap();
        let script = format!("mount -t tmpfs none /dev/net && exec {} {name} --exact", test.display());
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).env(CHILD, "1");
        assert!(unshare.status().unwrap().success());
    });
}
