//! Copies of requests to another group, whose answers nobody gets.
//!
//! ```text
//!   request ──▶ Exchange ─────────────────────────▶ its group ──▶ answer ──▶ client
//!                  │ body: each frame as it goes by
//!                  ▼
//!             head + body, once it is whole ──▶ a task of its own ──▶ the mirror's group ──▶ thrown away
//! ```
//!
//! The original is not waited for, and does not wait: its copy leaves when the last byte of its body has gone by. What
//! goes wrong with a copy is counted, and nothing else. Bounds: so many copies at once, so large a body, and a minute.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, TRANSFER_ENCODING};
use hyper::Request;
use hyper::body::Body;

use super::super::answer::BodyError;
use super::super::route::Chance;
use super::super::session::Site;
use super::super::slots::{Slot, Slots};
use super::Shaped;
use crate::l7::exchange::{BodyCopy, CopyFailed, Exchange, Forward, Purpose, RequestBody};
use crate::l7::spec::MirrorSpec;
use crate::l7::trace::Trace;

/// How long a copy may take, from its head to the end of its answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// How much is read of an answer, so that its upstream can serve others; a longer one costs the upstream.
const READ: usize = 256 << 10;

/// Who gets copies of a route's requests.
#[derive(Debug)]
pub(in crate::l7::front) struct Mirror {
    spec: MirrorSpec,
    slots: Slots,
    chance: Chance,
}

impl Mirror {
    pub(in crate::l7::front) fn new(spec: MirrorSpec, seed: u64) -> Self {
        Self { spec, slots: Slots::new(spec.at_once), chance: Chance::new(seed) }
    }

    /// Sends a copy of a request that is about to leave, if one is to be sent and can be.
    pub(in crate::l7::front) fn copy<F>(&self, exchange: &mut Exchange, site: &Rc<Site<F>>)
    where
        F: Forward + 'static,
        F::Body: 'static,
        <F::Body as Body>::Error: Into<BodyError>,
    {
        if self.spec.percent < 100 && self.chance.below(100) >= u32::from(self.spec.percent) {
            return;
        }
        let body = exchange.request.body();
        let empty = body.is_end_stream();
        // What is known to come is told apart before anything is kept.
        if body.size_hint().lower() > self.spec.max_body as u64 {
            site.counters.count_shaped(Shaped::MirrorTooLarge);
            return;
        }
        let Some(slot) = self.slots.take() else {
            site.counters.count_shaped(Shaped::MirrorFull);
            return;
        };
        let mut copied = self.head_of(exchange);
        let site = Rc::clone(site);
        if empty {
            tokio::task::spawn_local(async move { send(copied, &site, slot).await });
            return;
        }
        let (copy, whole) = BodyCopy::of_at_most(self.spec.max_body);
        let original = std::mem::replace(exchange.request.body_mut(), RequestBody::Empty);
        *exchange.request.body_mut() = original.copied_to(copy);
        tokio::task::spawn_local(async move {
            match whole.await.unwrap_or(Err(CopyFailed::CutOff)) {
                Ok(body) => {
                    *copied.request.body_mut() = RequestBody::Whole(body);
                    send(copied, &site, slot).await;
                }
                Err(CopyFailed::TooLarge) => site.counters.count_shaped(Shaped::MirrorTooLarge),
                Err(CopyFailed::CutOff) => site.counters.count_shaped(Shaped::MirrorCutOff),
            }
        });
    }

    /// The same request without its body, to the mirror's group.
    fn head_of(&self, exchange: &Exchange) -> Exchange {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = exchange.request.method().clone();
        *request.uri_mut() = exchange.request.uri().clone();
        *request.version_mut() = exchange.request.version();
        *request.headers_mut() = exchange.request.headers().clone();
        // The body is there, and its length is known.
        request.headers_mut().remove(EXPECT);
        request.headers_mut().remove(TRANSFER_ENCODING);
        Exchange {
            request,
            asked: exchange.asked.clone(),
            group: self.spec.group,
            backend: None,
            purpose: Purpose::Copy,
            mode: exchange.mode,
            client: exchange.client,
            vip: exchange.vip,
            trace: Trace::default(),
        }
    }
}

/// Sends a copy, and reads what is said to it.
async fn send<F: Forward>(copy: Exchange, site: &Site<F>, _slot: Slot) {
    let sent = tokio::time::timeout(PATIENCE, async {
        let Ok(answer) = site.forward.forward(copy).await else { return false };
        let mut body = pin!(answer.response.into_body());
        let mut read = 0usize;
        while read < READ {
            match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
                Some(Ok(frame)) => read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) => return false,
                None => break,
            }
        }
        true
    });
    site.counters.count_shaped(if sent.await == Ok(true) { Shaped::Mirrored } else { Shaped::MirrorFailed });
}
