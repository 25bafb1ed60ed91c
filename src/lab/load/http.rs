//! HTTP requests over connections that are kept, or over a new one each.
//!
//! On a connection that is not kept, the request says `Connection: close` and the exchange ends
//! with the server's FIN. So the server's side waits in TIME-WAIT, not ours, and we do not run out of
//! ports at some ten thousand connections a minute.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{sleep, timeout, timeout_at};

use super::{PATIENCE, REST, Tally, Target};
use crate::lab::clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    Kept,
    New,
}

pub(super) fn run(
    target: &Target,
    share: usize,
    until: Instant,
    connections: Connections,
) -> io::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = Rc::new(RefCell::new(Tally::new()));
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let first = Exchange::open(target).await?;
        let mut first = Some(first);
        for _ in 0..share {
            let (target, tally, ready) = (target.clone(), Rc::clone(&tally), first.take());
            tokio::task::spawn_local(async move { repeat(&target, connections, ready, &tally).await });
        }
        // Whatever is under way then is dropped with the tasks.
        sleep(until.saturating_duration_since(clock::now())).await;
        io::Result::Ok(())
    })?;
    drop(tasks);
    Ok(Rc::try_unwrap(tally).map_or_else(|shared| shared.borrow().clone(), RefCell::into_inner))
}

async fn repeat(
    target: &Target,
    connections: Connections,
    mut ready: Option<Exchange>,
    tally: &RefCell<Tally>,
) {
    loop {
        let before = clock::now();
        let once = async {
            let mut exchange = match ready.take() {
                Some(exchange) => exchange,
                None => Exchange::open(target).await?,
            };
            exchange.ask(target, connections).await?;
            match connections {
                Connections::Kept => io::Result::Ok(Some(exchange)),
                Connections::New => exchange.closed().await.map(|()| None),
            }
        };
        if let Ok(Ok(kept)) = timeout(PATIENCE, once).await {
            ready = kept;
            tally.borrow_mut().done(before.elapsed());
        } else {
            tally.borrow_mut().errors += 1;
            sleep(REST).await;
        }
    }
}

/// One connection, and the task that drives it.
struct Exchange {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<hyper::Result<Parts<TokioIo<TcpStream>>>>,
}

impl Exchange {
    async fn open(target: &Target) -> io::Result<Self> {
        let deadline = tokio::time::Instant::from_std(clock::now() + PATIENCE);
        let connect = TcpStream::connect(target.address);
        let stream = timeout_at(deadline, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Self { sender, driver: tokio::task::spawn_local(connection.without_shutdown()) })
    }

    async fn ask(&mut self, target: &Target, connections: Connections) -> io::Result<()> {
        let request =
            Request::get(target.path.as_deref().unwrap_or("/")).header("host", target.address.to_string());
        let request = match connections {
            Connections::Kept => request,
            Connections::New => request.header("connection", "close"),
        };
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        let response = self.sender.send_request(request).await.map_err(io::Error::other)?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(response.status().to_string()));
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Waits for the server's FIN before our own is sent.
    async fn closed(self) -> io::Result<()> {
        drop(self.sender);
        let parts = self.driver.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        match parts.io.into_inner().read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(io::Error::other("the server sent more than its answer")),
        }
    }
}
