//! 64 bytes there and back over a TCP echo, on one blocking connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::check::Fault;
use super::tally::{Share, Tally};
use super::{PATIENCE, REST};
use crate::lab::clock;

const LENGTH: usize = 64;

pub(super) fn run(target: SocketAddr, duration: Duration) -> io::Result<Share> {
    let mut tally = Tally::new();
    let mut stream = connect(target)?;
    let started = Share::begin();
    let until = started + duration;
    let (message, mut echo) = ([0x47; LENGTH], [0; LENGTH]);
    loop {
        let before = clock::now();
        if before >= until {
            return Ok(Share::since(started, tally));
        }
        echo.fill(0);
        match stream.write_all(&message).and_then(|()| stream.read_exact(&mut echo)) {
            Ok(()) if echo == message => {
                tally.done(before, clock::now(), LENGTH as u64);
                continue;
            }
            Ok(()) => tally.fault(&Fault::Wrong("another echo".into())),
            Err(error) => tally.fault(&Fault::Failed(error)),
        }
        while clock::now() < until {
            thread::sleep(REST);
            match connect(target) {
                Ok(again) => {
                    stream = again;
                    break;
                }
                Err(error) => tally.fault(&Fault::Failed(error)),
            }
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
