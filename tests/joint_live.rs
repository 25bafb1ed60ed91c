//! Both layers on one TUN device, live: kernel clients and backends in namespaces, the joint core in the middle.
//!
//! Layer 7 is a stack whose connections are answered by small tasks ([`proxy`]): bytes by their hash, a number by as many
//! bytes, or by what a backend says, over kernel TCP. Layer 4 balances another port of the same VIPs beside it.
//!
//! Where namespaces or the TUN node are not to be had the tests say so and do nothing; with
//! `FOURSEVEN_CI=1` that is a failure.

#![expect(clippy::disallowed_methods, reason = "what is watched here happens in real time")]

#[path = "joint_live/balancer.rs"]
mod balancer;
#[expect(dead_code, reason = "the tests of devices use the rest of it")]
#[path = "io_tun/namespace.rs"]
mod namespace;
#[expect(dead_code, reason = "the tests of layer 4 use the rest of it")]
#[path = "l4_live/net.rs"]
mod net;
#[path = "joint_live/proxy.rs"]
mod proxy;

use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use fourseven::datapath::{Outcome, Reason};
use fourseven::io::{IoChoice, IoError};
use fourseven::lab::attempt::Try;
use fourseven::packet::Family;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use balancer::{Balancer, LAYER_7};
use namespace::private;
use net::{FAMILIES, Net};

/// Bytes each way.
const TOTAL: usize = 10 << 20;

#[test]
fn both_layers_work_side_by_side_on_one_offload_queue() {
    private("both_layers_work_side_by_side_on_one_offload_queue", || side_by_side(IoChoice::Offload, 1));
}

#[test]
fn both_layers_work_side_by_side_on_two_offload_queues() {
    private("both_layers_work_side_by_side_on_two_offload_queues", || side_by_side(IoChoice::Offload, 2));
}

#[test]
fn both_layers_work_side_by_side_on_a_plain_queue() {
    private("both_layers_work_side_by_side_on_a_plain_queue", || side_by_side(IoChoice::Plain, 1));
}

fn side_by_side(io: IoChoice, queues: usize) {
    let net = Net::new(2);
    let balancer = Balancer::start(&net, io, queues);
    for family in FAMILIES {
        let (vip, of_layer_4) = (layer_7(&net, family), SocketAddr::new(net.topology.vip(family), 80));
        let quiet = Arc::new(AtomicBool::new(false));
        let beside = net.client.run({
            let quiet = Arc::clone(&quiet);
            move || {
                thread::spawn(move || {
                    let mut answered = 0;
                    while !quiet.load(SeqCst) {
                        let attempt = fourseven::lab::client::attempt(Try::Http(of_layer_4));
                        assert!(attempt.answered(), "layer 4 beside layer 7: {attempt:?}");
                        answered += 1;
                    }
                    answered
                })
            }
        });
        net.client.run(move || {
            up(vip);
            down(vip);
            by_way_of_a_backend(vip);
        });
        quiet.store(true, SeqCst);
        let answered = beside.join().unwrap();
        assert!(answered > 0);
        println!("{io} × {queues} {family:?}: {answered} requests of layer 4 beside");
        assert!(net.attempt(Try::Ping(vip.ip())).answered());
        let refused = net.client.run(move || TcpStream::connect((vip.ip(), 4444)).unwrap_err());
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    let many = layer_7(&net, Family::V4);
    net.client.run(move || two_thousand(many));

    let totals = balancer.stop().unwrap();
    assert!(totals.agree(), "{totals:?}");
    assert!(totals.count(Outcome::Delivered, Reason::KnownFlow) > 0 && totals.originated > 0, "{totals:?}");
    assert!(totals.count(Outcome::Forwarded, Reason::KnownFlow) > 0, "{totals:?}");
    assert_eq!(totals.originated_lost, 0, "{totals:?}");
    assert_eq!(totals.handed_over > 0, queues > 1, "{totals:?}");
}

#[test]
fn a_stop_in_the_middle_of_everything_loses_no_count() {
    private("a_stop_in_the_middle_of_everything_loses_no_count", || {
        let net = Net::new(1);
        for queues in [1, 2] {
            let balancer = Balancer::start(&net, IoChoice::Offload, queues);
            let transfers = endless(&net, 4);
            thread::sleep(Duration::from_millis(300));
            let totals = balancer.stop().unwrap();
            assert!(totals.agree() && totals.originated > 0, "{totals:?}");
            assert!(totals.count(Outcome::Delivered, Reason::KnownFlow) > 100, "{totals:?}");
            drop(transfers);
        }
    });
}

#[test]
fn a_device_that_is_deleted_ends_all_workers_with_its_name_and_true_counts() {
    private("a_device_that_is_deleted_ends_all_workers_with_its_name_and_true_counts", || {
        let net = Net::new(1);
        for (queues, transfers) in [(1, 0), (2, 0), (2, 4)] {
            let balancer = Balancer::start(&net, IoChoice::Offload, queues);
            let transfers = endless(&net, transfers);
            thread::sleep(Duration::from_millis(200));
            net.balancer.netlink(|netlink| netlink.delete_link("fs0").unwrap());
            let (error, totals) = balancer.end();
            assert!(matches!(&error, IoError::DeviceGone { name } if name == "fs0"), "{error}");
            assert!(totals.agree(), "{totals:?}");
            drop(transfers);
        }
    });
}

fn layer_7(net: &Net, family: Family) -> SocketAddr {
    SocketAddr::new(net.topology.vip(family), LAYER_7)
}

fn up(vip: SocketAddr) {
    let chunk: Vec<u8> = (0..1u32 << 20).map(|at| (at ^ at >> 7 ^ at >> 15).to_be_bytes()[3]).collect();
    let mut stream = connect(vip);
    let mut sent = DefaultHasher::new();
    stream.write_all(b"U").unwrap();
    for _ in 0..TOTAL / chunk.len() {
        stream.write_all(&chunk).unwrap();
        sent.write(&chunk);
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, sent.finish().to_be_bytes(), "{vip}: what was sent arrived whole");
}

fn down(vip: SocketAddr) {
    let mut stream = connect(vip);
    ask_for(&mut stream, TOTAL as u64);
    let mut received = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut left = TOTAL;
    while left > 0 {
        let length = stream.read(&mut buffer[..left.min(1 << 18)]).unwrap();
        assert!(length > 0, "{vip}: {left} bytes are missing");
        received.write(&buffer[..length]);
        left -= length;
    }
    let mut hash = Vec::new();
    stream.read_to_end(&mut hash).unwrap();
    assert_eq!(hash, received.finish().to_be_bytes(), "{vip}: what was received is whole");
}

/// Asks for as many bytes.
fn ask_for(stream: &mut TcpStream, bytes: u64) {
    stream.write_all(b"D").unwrap();
    stream.write_all(&bytes.to_be_bytes()).unwrap();
}

fn by_way_of_a_backend(vip: SocketAddr) {
    let mut stream = connect(vip);
    stream.write_all(b"PGET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{vip}: {answer}");
}

/// Two thousand connections, all open at once, each of which is answered.
fn two_thousand(vip: SocketAddr) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut streams: Vec<TcpStream> = (0..2000).map(|_| connect(vip)).collect();
    for stream in &mut streams {
        ask_for(stream, 1000);
    }
    for stream in &mut streams {
        let mut answer = [0; 1008];
        stream.read_exact(&mut answer).unwrap();
    }
}

/// Clients that ask for far more than they will get.
fn endless(net: &Net, clients: usize) -> Vec<thread::JoinHandle<()>> {
    let vip = layer_7(net, Family::V4);
    net.client.run(move || {
        let read = move || {
            let mut stream = connect(vip);
            ask_for(&mut stream, 1 << 40);
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(1..) = stream.read(&mut buffer) {}
        };
        (0..clients).map(|_| thread::spawn(read)).collect()
    })
}

fn connect(vip: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&vip, Duration::from_secs(10)).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.set_write_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}
