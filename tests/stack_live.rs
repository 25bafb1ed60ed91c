//! The kernel's own TCP as a client of the stack, over a real TUN device in a network namespace of
//! its own: 100 MB each way, compared by hash, in both families, with large segments and
//! without.
//!
//! Needs the right to make a namespace and a TUN device. Where that is not given, the test says so
//! and does nothing; with `FOURSEVEN_CI=1` that is a failure.

#![expect(clippy::disallowed_methods, reason = "what is timed is the world")]

mod stack_live {
    pub mod device;
    pub mod worker;
}

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fourseven::l7::stack::Offloads;
use nix::sched::{CloneFlags, unshare};

use stack_live::device::Device;
use stack_live::worker;

/// Bytes each way.
const TOTAL: usize = 100 << 20;

#[test]
fn the_kernels_tcp_sends_and_receives_large_segments() {
    in_a_namespace(Offloads::Segments);
}

#[test]
fn the_kernels_tcp_sends_and_receives_plain_packets() {
    in_a_namespace(Offloads::None);
}

fn in_a_namespace(offloads: Offloads) {
    // A namespace belongs to a thread and those that it starts.
    let outcome = thread::spawn(move || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let device = Device::open(offloads)?;
        let (stop, stopped) = mpsc::channel();
        let worker = thread::spawn(move || worker::run(device, &stopped));
        for vip in ["10.47.1.2:80", "[fd47:1::2]:80"] {
            exchange(vip.parse().expect("an address"), offloads);
        }
        drop(stop);
        worker.join().expect("the worker ends well");
        Ok(())
    })
    .join()
    .expect("the exchange goes well");
    if let Err(error) = outcome {
        assert!(std::env::var_os("FOURSEVEN_CI").is_none(), "no namespace or no TUN device: {error}");
        println!("SKIPPED, no namespace or no TUN device: {error}");
    }
}

fn exchange(vip: SocketAddr, offloads: Offloads) {
    let chunk: Vec<u8> = (0..1u32 << 20).map(|at| (at ^ at >> 7 ^ at >> 15).to_be_bytes()[3]).collect();

    let mut stream = connect(vip);
    let start = Instant::now();
    let mut sent = DefaultHasher::new();
    stream.write_all(b"U").expect("written");
    for _ in 0..TOTAL / chunk.len() {
        stream.write_all(&chunk).expect("written");
        sent.write(&chunk);
    }
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    assert_eq!(answer, sent.finish().to_be_bytes(), "{vip}: what was sent arrived whole");
    report(vip, offloads, "up", start);

    let mut stream = connect(vip);
    let start = Instant::now();
    stream.write_all(b"D").expect("written");
    stream.write_all(&(TOTAL as u64).to_be_bytes()).expect("written");
    let mut received = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut left = TOTAL;
    while left > 0 {
        let length = stream.read(&mut buffer[..left.min(1 << 18)]).expect("read");
        assert!(length > 0, "{vip}: {left} bytes are missing");
        received.write(&buffer[..length]);
        left -= length;
    }
    let mut hash = Vec::new();
    stream.read_to_end(&mut hash).expect("read");
    assert_eq!(hash, received.finish().to_be_bytes(), "{vip}: what was received is whole");
    report(vip, offloads, "down", start);
}

fn connect(vip: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&vip, Duration::from_secs(5)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("set");
    stream.set_write_timeout(Some(Duration::from_mins(1))).expect("set");
    stream
}

fn report(vip: SocketAddr, offloads: Offloads, way: &str, start: Instant) {
    let megabytes = f64::from(u32::try_from(TOTAL >> 20).expect("few"));
    let gigabits = megabytes * 8.388_608e-3 / start.elapsed().as_secs_f64();
    println!("{offloads:?} {vip} {way}: {gigabits:.2} Gbit/s");
}
