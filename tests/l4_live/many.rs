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

/// So many connections of a kind: 5,000 in both families together, by ports of either kind.
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

#[test]
fn ten_thousand_short_connections_succeed_without_a_stall_also_where_ports_are_used_again_at_once() {
    let name = "many::ten_thousand_short_connections_succeed_without_a_stall_also_where_ports_are_used_again_at_once";
    private(name, || {
        let net = Net::new(3);
        let mut flows = 0;
        for nat in NATS {
            let balancer = Balancer::start(&net, nat, &["--io=offload", "--queues=2"]);
            let ends = net.client.run({
                let ends = FAMILIES.map(|family| (net.topology.vip(family), net.topology.client(family)));
                move || {
                    let clients: Vec<_> = ends
                        .into_iter()
                        .flat_map(|ends| [Ports::Any, Ports::Always(20_000)].map(|ports| (ends, ports)))
                        .map(|((vip, client), ports)| {
                            let vip = SocketAddr::new(vip, HTTP);
                            thread::spawn(move || connections(CONNECTIONS, vip, client, ports))
                        })
                        .collect();
                    clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
                }
            });
            let smooth = |end: &io::Result<Duration>| end.as_ref().is_ok_and(|longest| *longest < STALL);
            assert!(ends.iter().all(smooth), "{nat}: the longest: {ends:?}");
            for host in net.backends.iter().map(|backend| &backend.host).chain([&net.client]) {
                for counter in ["TCPTimeouts", "TCPSynRetrans"] {
                    assert_eq!(tcp_counter(host, counter), 0, "{nat} {counter}");
                }
            }
            let report = balancer.stop();
            assert_eq!(report.dropped(), [], "{nat}");
            assert!(report.packets("handed_over") > 0, "{nat}: each of two queues has worked");
            flows += report.flows("opened");
        }
        // A connection whose port had a reset before has no flow of its own: it might be the old one.
        let (all, broken_off) = (2 * 4 * CONNECTIONS, 2 * 2 * CONNECTIONS / EVERY);
        assert_eq!(usize::try_from(flows).unwrap(), all - broken_off + 4, "the last was broken off");
    });
}

/// Sockets of the client, and endpoints of the VIP that each of them talks to: 20,000 flows in both families together.
const SOCKETS: usize = 250;
const ENDPOINTS: u16 = 40;
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
            (1..=ENDPOINTS)
                .map(move |port| format!("udp/{}", SocketAddr::new(net.topology.vip(family), port)))
        })
        .collect();
    let backends: Vec<String> = net.topology.backend_endpoints().iter().map(ToString::to_string).collect();
    format!(
        "[tun]\nio = \"offload\"\nqueues = 2\n\n[[service]]\nname = \"echo\"\nnat = {nat:?}\n\
         listen = {listen:?}\nbackends = {backends:?}\n"
    )
}

/// One thread's flows: in each round each of them sends its datagrams, and must have all of them back, in order.
fn talk(vip: IpAddr, sockets: &[UdpSocket], round: u32) -> Result<(), String> {
    let flows: Vec<(usize, u16)> =
        (1..=ENDPOINTS).flat_map(|port| (0..sockets.len()).map(move |socket| (socket, port))).collect();
    for flows in flows.chunks(FLOWS) {
        let mut expected = HashMap::new();
        for number in round * EACH..(round + 1) * EACH {
            for &(socket, port) in flows {
                sockets[socket]
                    .send_to(&number.to_be_bytes(), (vip, port))
                    .map_err(|error| error.to_string())?;
                expected.entry((socket, port)).or_insert(round * EACH);
            }
        }
        for &(socket, _) in flows.iter().flat_map(|flow| std::iter::repeat_n(flow, EACH as usize)) {
            let mut buffer = [0; 100];
            let (length, from) =
                sockets[socket].recv_from(&mut buffer).map_err(|error| format!("round {round}: {error}"))?;
            let got = buffer[..length].try_into().map(u32::from_be_bytes).ok();
            let next =
                expected.get_mut(&(socket, from.port())).ok_or(format!("out of the blue, from {from}"))?;
            if got != Some(*next) {
                return Err(format!("{got:?} instead of {next} from {from}"));
            }
            *next += 1;
        }
    }
    Ok(())
}

#[test]
fn twenty_thousand_flows_over_two_queues_lose_double_and_reorder_nothing() {
    private("many::twenty_thousand_flows_over_two_queues_lose_double_and_reorder_nothing", || {
        let net = Net::new(2);
        for nat in NATS {
            let file = format!("{}/many-{nat}.toml", env!("CARGO_TARGET_TMPDIR"));
            fs::write(&file, configuration(&net, nat)).unwrap();
            let mut balancer = Balancer::start_with(&net.balancer, vec!["-c".into(), file]);
            let ends = FAMILIES.map(|family| (net.topology.client(family), net.topology.vip(family)));
            let ends = ends.map(|(client, vip)| (net.client.run(move || sockets(client)), vip));
            for round in 0..ROUNDS {
                thread::scope(|scope| {
                    let parts = ends.iter().flat_map(|(sockets, vip)| {
                        sockets.chunks(sockets.len() * ends.len() / THREADS).map(|part| (part, *vip))
                    });
                    let threads: Vec<_> =
                        parts.map(|(part, vip)| scope.spawn(move || talk(vip, part, round))).collect();
                    for thread in threads {
                        let end = thread.join().unwrap();
                        end.unwrap_or_else(|error| panic!("{nat}, round {round}: {error}"));
                    }
                });
                // The kernel remembers the queue of no more than 4,096 flows, so there are more in each round.
                let handed_over = balancer.report().packets("handed_over");
                println!("{nat}: {handed_over} packets handed over until round {round}");
                assert!(handed_over > 0);
            }
            let report = balancer.stop();
            for socket in ends.iter().flat_map(|(sockets, _)| sockets) {
                socket.set_nonblocking(true).unwrap();
                let more = socket.recv(&mut [0]).map_err(|error| error.kind());
                assert_eq!(more, Err(io::ErrorKind::WouldBlock), "{nat}: a datagram came twice");
            }
            assert_eq!(report.dropped(), [], "{nat}");
            let flows = SOCKETS * usize::from(ENDPOINTS) * ends.len();
            assert_eq!(report.flows("opened"), flows as u64, "{nat}");
            let sent = u64::from(ROUNDS * EACH) * flows as u64;
            let forwarded = ["known_flow", "new_flow"].map(|reason| report.reason("forwarded", reason));
            assert_eq!(forwarded.into_iter().sum::<u64>(), 2 * sent, "{nat}");
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
