//! One thread of a load: its connections, on an event loop of its own.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use super::check::Fault;
use super::http1::{After, Http1};
use super::http2::Http2;
use super::job::Job;
use super::pace::{Arrivals, Pace};
use super::stream::{LastWords, Sessions, Stream};
use super::tally::{Share, Tally};
use super::{Kind, Load, PATIENCE, REST, Version};
use crate::lab::clock;

/// An exchange that came to its right end: when, and how many bytes its body had.
struct Done {
    at: Instant,
    bytes: u64,
}

impl Done {
    fn now(bytes: u64) -> Self {
        Self { at: clock::now(), bytes }
    }
}

/// Who asks: one request at a time.
enum Asker {
    /// Over a connection that is kept.
    Kept(Option<Http1>),
    /// Over a new connection each.
    New,
    /// Over a connection that is shared with others.
    Shared(Rc<Http2>),
    /// Not at all: a connection is opened and closed.
    Handshakes(Sessions, Job),
}

/// Puts `connections` on, of `threads` times as many in all.
pub(super) fn run(
    load: &Load,
    job: &Job,
    connections: usize,
    interval: Option<Duration>,
) -> io::Result<Share> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let share = tasks.block_on(&runtime, drive(load, job, connections, interval));
    // Whatever is under way is dropped with the tasks.
    drop(tasks);
    share
}

async fn drive(load: &Load, job: &Job, connections: usize, interval: Option<Duration>) -> io::Result<Share> {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let askers = open(load, job, connections, &tally).await?;
    let started = Share::begin();
    let until = started + load.duration;
    let pace = Rc::new(match interval {
        Some(interval) => Pace::Open(Arrivals::new(started, interval)),
        None => Pace::Closed,
    });
    let mut loops = JoinSet::new();
    for asker in askers {
        let (job, pace, tally) = (job.clone(), Rc::clone(&pace), Rc::clone(&tally));
        loops.spawn_local(async move { repeat(asker, &job, &pace, &tally).await });
    }
    match &*pace {
        Pace::Closed => sleep(load.duration).await,
        Pace::Open(arrivals) => {
            arrivals.run(until).await?;
            // What was due is still answered, and whoever is not counts as that.
            let _ = timeout(PATIENCE, async { while loops.join_next().await.is_some() {} }).await;
            let mut tally = tally.borrow_mut();
            let unfinished = arrivals.due().saturating_sub(tally.ended());
            tally.unfinished(unfinished);
        }
    }
    let seen = tally.borrow().clone();
    Ok(Share::since(started, seen))
}

/// Opens what is kept, before the clock starts. The first one that fails ends it all: a target that is not there
/// is told apart from one that fails under load.
async fn open(
    load: &Load,
    job: &Job,
    connections: usize,
    tally: &Rc<RefCell<Tally>>,
) -> io::Result<Vec<Asker>> {
    let mut askers = Vec::new();
    match (load.kind, load.version) {
        (Kind::Handshake, _) => {
            drop(Stream::open(job).await?);
            askers.resize_with(connections, || Asker::Handshakes(Sessions::Full, job.clone()));
        }
        (Kind::HandshakeResumed, _) => {
            let mut tickets = JoinSet::new();
            for _ in 0..connections {
                let job = job.with_its_own_sessions();
                tickets.spawn_local(async move {
                    Stream::open(&job)
                        .await?
                        .closed(LastWords::Any)
                        .await
                        .map(|()| Asker::Handshakes(Sessions::Resumed, job))
                });
            }
            while let Some(asker) = tickets.join_next().await {
                askers.push(asker.map_err(io::Error::other)??);
            }
        }
        (Kind::HttpNew, _) => {
            drop(Stream::open(job).await?);
            askers.resize_with(connections, || Asker::New);
        }
        (_, Version::Http1) => {
            let mut opening = JoinSet::new();
            for number in 0..connections {
                let job = job.clone();
                if number == 0 {
                    askers.push(Asker::Kept(Some(Http1::over(Stream::open(&job).await?))));
                } else {
                    opening.spawn_local(async move { Stream::open(&job).await });
                }
            }
            while let Some(stream) = opening.join_next().await {
                let stream = stream.map_err(io::Error::other)?;
                let failed = |error| tally.borrow_mut().fault(&Fault::Failed(error));
                askers.push(Asker::Kept(stream.map_err(failed).ok().map(Http1::over)));
            }
        }
        (_, Version::Http2) => {
            for _ in 0..connections {
                let shared = Rc::new(Http2::default());
                shared.open(job).await.map_err(|fault| io::Error::other(fault.to_string()))?;
                for _ in 0..load.streams().get() {
                    askers.push(Asker::Shared(Rc::clone(&shared)));
                }
            }
        }
    }
    Ok(askers)
}

async fn repeat(mut asker: Asker, job: &Job, pace: &Pace, tally: &RefCell<Tally>) {
    while let Some(due) = pace.next().await {
        let end = timeout(PATIENCE, asker.ask(job)).await;
        let end = end.unwrap_or_else(|_| Err(Fault::Failed(io::ErrorKind::TimedOut.into())));
        match end {
            Ok(done) => tally.borrow_mut().done(due, done.at, done.bytes),
            Err(fault) => {
                tally.borrow_mut().fault(&fault);
                sleep(REST).await;
            }
        }
    }
}

impl Asker {
    async fn ask(&mut self, job: &Job) -> Result<Done, Fault> {
        match self {
            Self::Kept(slot) => {
                // Taken out, so that a connection in the middle of an answer is not asked again.
                let mut connection = match slot.take() {
                    Some(connection) => connection,
                    None => Http1::over(Stream::open(job).await?),
                };
                let (bytes, after) = connection.ask(&job.kept, job.expect).await?;
                *slot = (after == After::Keep).then_some(connection);
                Ok(Done::now(bytes))
            }
            Self::New => {
                let mut connection = Http1::over(Stream::open(job).await?);
                let (bytes, _) = connection.ask(&job.last, job.expect).await?;
                let done = Done::now(bytes);
                connection.into_stream().closed(LastWords::None).await?;
                Ok(done)
            }
            Self::Shared(connection) => Ok(Done::now(connection.ask(job).await?)),
            Self::Handshakes(sessions, job) => {
                let stream = Stream::open(job).await?;
                let done = Done::now(0);
                shook_hands(&stream, *sessions)?;
                stream.closed(LastWords::Any).await?;
                Ok(done)
            }
        }
    }
}

/// Whether that was the kind of handshake that is measured.
fn shook_hands(stream: &Stream, sessions: Sessions) -> Result<(), Fault> {
    let Stream::Tls(stream) = stream else { return Err(Fault::Wrong("no TLS".into())) };
    let session = stream.get_ref().1;
    let full = matches!(
        session.handshake_kind(),
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
    );
    match (session.protocol_version(), sessions) {
        (Some(ProtocolVersion::TLSv1_3), Sessions::Full) if full => Ok(()),
        (Some(ProtocolVersion::TLSv1_3), Sessions::Resumed) if !full => Ok(()),
        (version, _) => {
            Err(Fault::Wrong(format!("a handshake by {version:?}, {:?}", session.handshake_kind())))
        }
    }
}
