//! Layer 7 of one worker: the stack that ends TCP, and a session for each connection it accepts.
//!
//! A worker's turn is that of [`Stack`], with [`Proxy::accept`] in the place of [`Stack::accept`]: it gives each new
//! connection a task of its own on the worker's `LocalSet`. The proxy holds no session; what it can do to them is to
//! tell them to drain.

use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll};

use foldhash::fast::FixedState;
use hyper::body::Body;
use tokio::sync::watch;

use super::exchange::Forward;
use super::front::{Arrived, BodyError, Security, Site, serve};
use super::rooms::SessionLimit;
use super::stack::{Accepted, Listener, Stack};
use super::tls::{Secured, Terminator};
use crate::datapath::{Arrival, Datapath, Instant, Listening, Verdict};
use crate::packet::{Endpoint, Frame};

/// A site, and who ends its TLS.
struct Served<F> {
    site: Rc<Site<F>>,
    secure: Option<Rc<Terminator>>,
}

/// Layer 7 of one worker.
pub struct Proxy<F> {
    stack: Stack,
    sites: HashMap<Endpoint, Served<F>, FixedState>,
    limit: SessionLimit,
    drain: watch::Sender<bool>,
}

impl<F> Proxy<F>
where
    F: Forward + 'static,
    F::Body: 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    /// A proxy without sites.
    pub fn new(stack: Stack, limit: SessionLimit) -> Self {
        let (drain, _) = watch::channel(false);
        Self { stack, sites: HashMap::default(), limit, drain }
    }

    /// Serves a site on these endpoints from now on; over TLS where there is somebody to end it.
    pub fn serve(
        &mut self,
        listen: &[Endpoint],
        listener: Listener,
        site: &Rc<Site<F>>,
        secure: Option<&Rc<Terminator>>,
    ) {
        for endpoint in listen {
            self.stack.listen(*endpoint, listener);
            self.sites.insert(*endpoint, Served { site: Rc::clone(site), secure: secure.cloned() });
        }
    }

    /// Takes a frame in, as [`Stack::handle_frame`] does.
    pub fn handle_frame(&mut self, now: Instant, frame: &mut Frame, arrival: Arrival) -> Verdict {
        self.stack.handle_frame(now, frame, arrival)
    }

    /// Does what has fallen due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.stack.handle_timeout(now);
    }

    /// When [`Proxy::handle_timeout`] and [`Proxy::poll_egress`] must be called next, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.stack.poll_timeout()
    }

    /// Gives all frames that are to be sent now.
    pub fn poll_egress(&mut self, now: Instant, sink: &mut impl FnMut(&mut Frame)) {
        self.stack.poll_egress(now, sink);
    }

    /// Ready when [`Proxy::poll_egress`] has something to say.
    pub fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        self.stack.poll_dirty(context)
    }

    /// Whether to remember what there is to say of each decision.
    pub fn listen(&mut self, listening: Listening) {
        Datapath::listen(&mut self.stack, listening);
    }

    /// The stack, to ask it whose a flow is and what it has counted.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Gives each connection that was opened a session of its own. Must be called in a `LocalSet`.
    pub fn accept(&mut self) {
        while let Some(accepted) = self.stack.accept() {
            // A site that has gone meanwhile, or no room: the client sees a reset.
            let Some(served) = self.sites.get(&accepted.vip) else { continue };
            let place = match self.limit.take(accepted.client.address) {
                Ok(place) => place,
                Err(cut) => {
                    served.site.turn_away(accepted.client, accepted.vip, cut);
                    continue;
                }
            };
            let (site, secure) = (Rc::clone(&served.site), served.secure.clone());
            let drain = self.drain.subscribe();
            tokio::task::spawn_local(async move {
                session(accepted, site, secure, drain).await;
                drop(place);
            });
        }
    }

    /// Takes no new connections, and tells sessions to end behind the requests that are open.
    pub fn drain(&mut self) {
        for endpoint in self.sites.keys() {
            self.stack.unlisten(*endpoint);
        }
        self.drain.send_replace(true);
    }

    /// Whether no session is left.
    pub fn is_empty(&self) -> bool {
        self.drain.receiver_count() == 0
    }
}

/// One connection: secured where it must be, then served.
async fn session<F>(
    Accepted { client, vip, stream }: Accepted,
    site: Rc<Site<F>>,
    secure: Option<Rc<Terminator>>,
    drain: watch::Receiver<bool>,
) where
    F: Forward + 'static,
    F::Body: 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    let clear =
        Arrived { client, vip, security: Security::Clear, alpn: None, server_name: None, handshake: None };
    let Some(secure) = secure else { return serve(stream, clear, site, drain).await };
    let began = tokio::time::Instant::now();
    // Here, and nowhere else, a stream is secured.
    let Some(Secured { stream, agreed }) = secure.secure(stream, site.patience.handshake).await else {
        site.counters.handshakes_failed.add(1);
        return;
    };
    let server_name = agreed.sni.map(Into::into);
    let handshake = Some(began.elapsed());
    let arrived = Arrived { security: Security::Tls, alpn: agreed.alpn, server_name, handshake, ..clear };
    serve(stream, arrived, site, drain).await;
}

#[cfg(test)]
mod tests;
