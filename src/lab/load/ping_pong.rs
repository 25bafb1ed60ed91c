//! 64 bytes there and back over a TCP echo, on one blocking connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use super::{PATIENCE, REST, Tally};
use crate::lab::clock;

const LENGTH: usize = 64;

pub(super) fn run(target: SocketAddr, until: Instant) -> io::Result<Tally> {
    let mut tally = Tally::new();
    let mut stream = connect(target)?;
    let (message, mut echo) = ([0x47; LENGTH], [0; LENGTH]);
    loop {
        let before = clock::now();
        if before >= until {
            return Ok(tally);
        }
        let exchange = stream.write_all(&message).and_then(|()| stream.read_exact(&mut echo));
        if exchange.is_ok() {
            tally.done(before.elapsed());
            continue;
        }
        tally.errors += 1;
        while clock::now() < until {
            thread::sleep(REST);
            if let Ok(again) = connect(target) {
                stream = again;
                break;
            }
            tally.errors += 1;
        }
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    // Without this the second small write of a connection waits for the first one's ACK.
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
