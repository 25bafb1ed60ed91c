//! What another server has left on the VIP before the balancer took it over.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use super::balancer::Balancer;
use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net};
use super::traffic::PATIENCE;
use fourseven::lab::topology::HTTP;

/// A port that the client comes from twice.
const AGAIN: u16 = 40_747;

fn connect(client: &Namespace, from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    client.run(move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(socket.into())
    })
}

/// Serves the VIP by the balancer's own kernel, for one client, and closes first, which leaves it in `TIME_WAIT`.
fn serve_once(net: &Net, from: SocketAddr, vip: SocketAddr) {
    let address = vip.ip();
    net.balancer.command(&format!("ip addr add {address} dev lo nodad"));
    let listener = net.balancer.run(move || TcpListener::bind(vip).unwrap());
    let mut stream = connect(&net.client, from, vip).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop((stream, listener));
    net.balancer.command(&format!("ip addr del {address} dev lo"));
}

#[test]
fn what_is_left_of_a_server_that_had_the_vip_does_not_keep_its_clients_away() {
    private("before::what_is_left_of_a_server_that_had_the_vip_does_not_keep_its_clients_away", || {
        let net = Net::new(1);
        let ends = FAMILIES.map(|family| {
            let from = net.topology.client(family);
            (SocketAddr::new(from, AGAIN), SocketAddr::new(net.topology.vip(family), HTTP))
        });
        for (from, vip) in ends {
            serve_once(&net, from, vip);
        }
        let left = net.balancer.command("ss -Htan state time-wait");
        assert_eq!(left.lines().count(), ends.len(), "{left}");
        let balancer = Balancer::start(&net, "full", &[]);
        for (from, vip) in ends {
            connect(&net.client, from, vip).unwrap_or_else(|error| panic!("{vip} from {from}: {error}"));
        }
        balancer.stop();
    });
}
