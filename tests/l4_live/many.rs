//! Many connections and many flows: none fails, waits for a timer, or loses a packet.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use fourseven::lab::topology::HTTP;
use socket2::{Domain, Socket, Type};

use super::balancer::{Balancer, NATS};
use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net};
use super::traffic::PATIENCE;

/// A counter of the kernel's TCP in a namespace.
fn tcp_counter(host: &Namespace, name: &'static str) -> u64 {
    host.run(move || {
        let files = ["snmp", "netstat"].map(|file| format!("/proc/thread-self/net/{file}"));
        let text = files.map(|file| fs::read_to_string(file).unwrap()).concat();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        // A line of names is followed by one of values.
        let value = lines.chunks(2).find_map(|pair| {
            let at = pair[0].iter().position(|&word| word == name)?;
            pair[1][at].parse().ok()
        });
        value.unwrap_or_else(|| panic!("no counter {name}"))
    })
}

/// So many connections of a kind: 5,000 in both families with both kinds of ports.
const CONNECTIONS: usize = 1250;
/// Of those from one port, one of so many is broken off.
const EVERY: usize = 5;
/// A SYN that is lost comes again after a second (RFC 6298 §2), and so does a client that was kept waiting by a
/// port used again. Less than that is the machine's doing: its processors may be busy with other things. The
/// retransmissions that are counted below are the sharper test.
const STALL: Duration = Duration::from_millis(900);

/// How a client gets its port, and how it ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// From the kernel.
    Any,
    /// Always this one, at once after the end of the connection before. Some are broken off with a reset.
    Always(u16),
}

/// A connection, and when its SYN was sent. Its port may be that of the connection before, from this host's
/// point of view until the last acknowledgement is there.
fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<(Socket, Instant)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let started = Instant::now();
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(from) = from {
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        match socket.connect_timeout(&to.into(), PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && started < deadline => {
                thread::yield_now();
            }
            end => return end.map(|()| (socket, started)),
        }
    }
}

/// One connection: a request and its answer, after which the backend closes; or none, and a reset. Gives the time from
/// the SYN to the last byte.
fn connection(to: SocketAddr, from: Option<SocketAddr>, abort: bool) -> io::Result<Duration> {
    let (socket, started) = connect(to, from)?;
    if abort {
        socket.set_linger(Some(Duration::ZERO))?;
        return Ok(started.elapsed());
    }
    let mut stream: TcpStream = socket.into();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: vip\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(started.elapsed()) } else { Err(io::Error::other(answer)) }
}

/// So many connections, one after the other. Gives the longest.
fn connections(count: usize, to: SocketAddr, from: IpAddr, ports: Ports) -> io::Result<Duration> {
    let mut longest = Duration::ZERO;
    for number in 0..count {
        let (from, abort) = match ports {
            Ports::Any => (None, false),
            Ports::Always(port) => (Some(SocketAddr::new(from, port)), number % EVERY == EVERY - 1),
        };
        longest = longest.max(connection(to, from, abort)?);
    }
    Ok(longest)
}

/// Connections in both families with ports of either kind, four at a time. Gives the longest of each.
fn short_connections(net: &Net) -> Vec<io::Result<Duration>> {
    let ends = FAMILIES.map(|family| (net.topology.vip(family), net.topology.client(family)));
    net.client.run(move || {
        let clients: Vec<_> = ends
            .into_iter()
            .flat_map(|ends| [Ports::Any, Ports::Always(20_000)].map(|ports| (ends, ports)))
            .map(|((vip, client), ports)| {
                thread::spawn(move || connections(CONNECTIONS, SocketAddr::new(vip, HTTP), client, ports))
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// How often a kernel has waited for an answer in vain.
fn waited_in_vain(net: &Net) -> u64 {
    let hosts = net.backends.iter().map(|backend| &backend.host).chain([&net.client]);
    hosts.flat_map(|host| ["TCPTimeouts", "TCPSynRetrans"].map(|counter| tcp_counter(host, counter))).sum()
}

#[test]
fn five_thousand_short_connections_succeed_without_a_stall_also_where_ports_are_used_again_at_once() {
    let name = "many::five_thousand_short_connections_succeed_without_a_stall_also_where_ports_are_used_again_at_once";
    private(name, || {
        let net = Net::new(3);
        for nat in NATS {
            let balancer = Balancer::start(&net, nat, &["--io=offload", "--queues=2"]);
            // A machine that is busy with other things stalls us, too, but not again and again.
            for attempt in 1.. {
                let before = waited_in_vain(&net);
                let longest = short_connections(&net).into_iter().map(|longest| {
                    longest.unwrap_or_else(|error| panic!("{nat}: a connection failed: {error}"))
                });
                let (longest, in_vain) = (longest.max().unwrap(), waited_in_vain(&net) - before);
                if longest < STALL && in_vain == 0 {
                    break;
                }
                println!("{nat}: {longest:?}, {in_vain} timeouts");
                assert!(attempt < 3, "{nat}: the longest took {longest:?}, {in_vain} timeouts");
            }
            let report = balancer.stop();
            assert_eq!(report.dropped(), [], "{nat}");
            assert!(report.packets("handed_over") > 0, "{nat}: each of two queues has worked");
        }
    });
}

/// Sockets of the client in each family.
const SOCKETS: usize = 250;
/// Ports of the VIP that each of them talks to: 20,000 flows in both families together.
const PORTS: u16 = 40;
/// So many are 1,500 flows.
const FEW_PORTS: u16 = 3;
const THREADS: usize = 4;
const ROUNDS: u32 = 3;
/// Datagrams of a flow that are sent at once, and flows of a thread that are waited for at a time: all of them together
/// fit a backend's socket.
const EACH: u32 = 2;
const FLOWS: usize = 16;

fn configuration(net: &Net, nat: &str) -> String {
    let listen: Vec<String> = FAMILIES
        .into_iter()
        .flat_map(|family| {
            (1..=PORTS).map(move |port| format!("udp/{}", SocketAddr::new(net.topology.vip(family), port)))
        })
        .collect();
    let backends: Vec<String> = net.topology.backend_endpoints().iter().map(ToString::to_string).collect();
    format!(
        "[tun]\nio = \"offload\"\nqueues = 2\n\n[[service]]\nname = \"echo\"\nnat = {nat:?}\n\
         listen = {listen:?}\nbackends = {backends:?}\n"
    )
}

/// One thread's flows: each of them sends its datagrams, and must have all of them back, each once. Gives how many
/// came after a later one.
fn talk(vip: IpAddr, sockets: &[UdpSocket], ports: u16, round: u32) -> Result<usize, String> {
    let flows: Vec<(usize, u16)> =
        (1..=ports).flat_map(|port| (0..sockets.len()).map(move |socket| (socket, port))).collect();
    let mut late = 0;
    for flows in flows.chunks(FLOWS) {
        let mut expected: HashMap<(usize, u16), Vec<u32>> = HashMap::new();
        for number in round * EACH..(round + 1) * EACH {
            for &(socket, port) in flows {
                let sent = sockets[socket].send_to(&number.to_be_bytes(), (vip, port));
                sent.map_err(|error| error.to_string())?;
                expected.entry((socket, port)).or_default().push(number);
            }
        }
        for &(socket, _) in flows.iter().flat_map(|flow| std::iter::repeat_n(flow, EACH as usize)) {
            let mut buffer = [0; 100];
            let received = sockets[socket].recv_from(&mut buffer);
            let (length, from) = received.map_err(|error| format!("a datagram is lost: {error}"))?;
            let got = buffer[..length].try_into().map(u32::from_be_bytes).ok();
            let left = expected.entry((socket, from.port())).or_default();
            let place = left.iter().position(|number| Some(*number) == got);
            left.remove(place.ok_or(format!("a datagram too many, from {from}: {got:?}"))?);
            late += place.unwrap_or_default();
        }
    }
    Ok(late)
}

/// What a client has in one family: its sockets, and the VIP that they talk to.
type Ends = [(Vec<UdpSocket>, IpAddr); 2];

/// One round of all flows to so many ports. Gives how many datagrams were late.
fn everybody_talks(ends: &Ends, ports: u16, round: u32) -> Result<usize, String> {
    thread::scope(|scope| {
        let parts = ends.iter().flat_map(|(sockets, vip)| {
            sockets.chunks(sockets.len() * ends.len() / THREADS).map(|part| (part, *vip))
        });
        let threads: Vec<_> =
            parts.map(|(part, vip)| scope.spawn(move || talk(vip, part, ports, round))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// The kernel remembers which queue a flow is on for 4,096 tuples, two of a flow. As long as that is enough, each
/// packet comes on its owner's queue. After that, answers come on the queue that their hash says until the kernel
/// remembers their tuple after all; a worker that lags behind at this moment still has the last of them when
/// the next comes on its owner's queue. That one has to wait, and none is late, unless a worker was kept from
/// its processor for so long that the other gave up.
#[test]
fn twenty_thousand_flows_over_two_queues_lose_double_and_reorder_nothing() {
    let name = "many::twenty_thousand_flows_over_two_queues_lose_double_and_reorder_nothing";
    private(name, || {
        let net = Net::new(2);
        for nat in NATS {
            let file = format!("{}/many-{nat}.toml", env!("CARGO_TARGET_TMPDIR"));
            fs::write(&file, configuration(&net, nat)).unwrap();
            let mut balancer = Balancer::start_with(&net.balancer, vec!["-c".into(), file]);
            let ends = FAMILIES.map(|family| (net.topology.client(family), net.topology.vip(family)));
            let ends = ends.map(|(client, vip)| (net.client.run(move || sockets(client)), vip));
            let mut sent = 0;
            for (ports, rounds) in [(FEW_PORTS, 0..ROUNDS), (PORTS, ROUNDS..2 * ROUNDS)] {
                let flows = SOCKETS * usize::from(ports) * ends.len();
                let late: Result<usize, String> =
                    rounds.map(|round| everybody_talks(&ends, ports, round)).sum();
                let late = late.unwrap_or_else(|error| panic!("{nat}: {error}"));
                let datagrams = flows * (ROUNDS * EACH) as usize;
                sent += datagrams;
                let so_far = balancer.report();
                let handed_over = so_far.packets("handed_over");
                println!(
                    "{nat}, {flows} flows: of {datagrams} datagrams and their answers {handed_over} were \
                     handed over, {} had to wait, and {late} came late",
                    so_far.packets("waited_for_order")
                );
                assert!(late as u64 <= so_far.packets("order_given_up"), "{nat}");
                if ports == FEW_PORTS {
                    // Nearly always none: but the kernel forgets a flow after three seconds of silence, and a busy
                    // machine can make a round so long.
                    assert!(handed_over * 100 < datagrams as u64, "{nat}");
                } else {
                    assert!(handed_over > 0, "{nat}");
                }
            }
            let report = balancer.stop();
            for socket in ends.iter().flat_map(|(sockets, _)| sockets) {
                socket.set_nonblocking(true).unwrap();
                let more = socket.recv(&mut [0]).map_err(|error| error.kind());
                assert_eq!(more, Err(io::ErrorKind::WouldBlock), "{nat}: a datagram came twice");
            }
            assert_eq!(report.dropped(), [], "{nat}");
            let flows = SOCKETS * usize::from(PORTS) * ends.len();
            assert_eq!(report.flows("opened"), flows as u64, "{nat}");
            let forwarded = ["known_flow", "new_flow"].map(|reason| report.reason("forwarded", reason));
            assert_eq!(forwarded.into_iter().sum::<u64>(), 2 * sent as u64, "{nat}");
        }
    });
}

fn sockets(from: IpAddr) -> Vec<UdpSocket> {
    let sockets = (0..SOCKETS).map(|_| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    });
    sockets.collect::<io::Result<_>>().unwrap()
}
