//! Many connections that do nothing, held open beside a load on others.
//!
//! Each one asks once when it is opened, and must be answered, so that what is idle is a connection in the middle
//! of its life. At the end each one must still be open.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt;
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinSet, LocalSet, unconstrained};
use tokio::time::{sleep, timeout};

use super::check::Fault;
use super::http1::{After, Http1};
use super::job::Job;
use super::stream::Stream;
use super::tally::{Share, Tally};
use super::{Load, PATIENCE, Until};
use crate::lab::clock;

/// Opened at a time.
const OPENING: usize = 32;

pub(super) fn run(load: &Load, job: &Job) -> io::Result<Share> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, hold(load, job))
}

async fn hold(load: &Load, job: &Job) -> io::Result<Share> {
    let stop = Arc::new(AtomicBool::new(false));
    if load.until == Until::Signal {
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
    }
    let tally = Rc::new(RefCell::new(Tally::new()));
    let started = Share::begin();
    let first = open(job).await.map_err(|fault| io::Error::other(fault.to_string()))?;
    tally.borrow_mut().done(started, clock::now(), 0);
    let held = Rc::new(RefCell::new(vec![first]));
    let left = Rc::new(RefCell::new(1..load.connections.get()));
    let mut opening = JoinSet::new();
    for _ in 0..OPENING {
        let (job, held, left, tally) = (job.clone(), Rc::clone(&held), Rc::clone(&left), Rc::clone(&tally));
        let stop = Arc::clone(&stop);
        opening.spawn_local(async move {
            while !stop.load(Relaxed) && take(&left) {
                let before = clock::now();
                let end = timeout(PATIENCE, open(&job)).await;
                match end.unwrap_or_else(|_| Err(Fault::Failed(io::ErrorKind::TimedOut.into()))) {
                    Ok(stream) => {
                        tally.borrow_mut().done(before, clock::now(), 0);
                        held.borrow_mut().push(stream);
                    }
                    Err(fault) => tally.borrow_mut().fault(&fault),
                }
            }
        });
    }
    while opening.join_next().await.is_some() {}
    eprintln!("holding {} connections", held.borrow().len());
    while !stop.load(Relaxed) && (load.until == Until::Signal || started.elapsed() < load.duration) {
        sleep(Duration::from_millis(50)).await;
    }
    for mut stream in held.take() {
        // Nothing can have come: what a server says unasked is that it goes. One look at each will do, since the
        // event loop has seen all that has come; `unconstrained`, as tokio would soon give nothing but patience.
        if let Some(end) = unconstrained(stream.read(&mut [0])).now_or_never() {
            let why = end.map_or_else(|error| error.to_string(), |_| "closed by the server".into());
            tally.borrow_mut().fault(&Fault::Failed(io::Error::other(why)));
        }
    }
    let seen = tally.borrow().clone();
    Ok(Share::since(started, seen))
}

fn take(left: &RefCell<std::ops::Range<usize>>) -> bool {
    left.borrow_mut().next().is_some()
}

async fn open(job: &Job) -> Result<Stream, Fault> {
    let mut connection = Http1::over(Stream::open(job).await?);
    match connection.ask(&job.kept, job.expect).await? {
        (_, After::Keep) => Ok(connection.into_stream()),
        (_, After::Close) => Err(Fault::Wrong("a connection that is not kept".into())),
    }
}
