//! The way of a fragment through the workers.
//!
//! The kernel may bring fragments of one datagram on different queues, and the flow may
//! live with a third worker. So each datagram has a *home* worker, found by hash, where its
//! fragments meet; the home passes them all, in order, to the worker that owns the flow.
//!
//! ```text
//!   any queue ──▶ home: wait for the first ──▶ owner: translate
//! ```

use std::hash::BuildHasher;

use super::fragments::{DatagramKey, Fate, GivenUp, Route};
use super::translator::Translator;
use crate::datapath::{Arrival, Counters, Instant, Outbox, Outcome, Reason, Verdict, WorkerId};
use crate::packet::rewrite::{self, Passage};
use crate::packet::{Frame, Transport, View};

impl Translator {
    pub(super) fn fragment(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        arrival: Arrival,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(fragment) = view.fragment else { return Verdict::Drop(Reason::Malformed) };
        let key = DatagramKey::of(view, &fragment);
        let home = self.home_of(&key);
        if arrival == Arrival::Queue && home != self.worker {
            return Verdict::HandOver(home);
        }
        if view.transport != Transport::LaterFragment {
            return self.first_fragment(now, frame, view, key, arrival, out);
        }
        if home != self.worker {
            // Only the home lets fragments wait; to the owner it sends them after their first. That may have gone on to
            // another worker, but not back: a route that leads back is that of an earlier first fragment.
            return match self.fragments.route(&key) {
                Some(Route::Elsewhere(worker)) if arrival.visited().contains(worker) => {
                    Verdict::Drop(Reason::FragmentTimeout)
                }
                Some(route) => self.take_route(frame, view, route),
                None => Verdict::Drop(Reason::FragmentTimeout),
            };
        }
        let counters = &self.counters;
        match self.fragments.follow(now, key, frame, |lost| given_up(counters, &lost)) {
            Fate::Known(route) => self.take_route(frame, view, route),
            Fate::Refused => Verdict::Drop(Reason::FragmentOverflow),
            Fate::Waits => {
                self.counters.held.add(1);
                Verdict::Held
            }
        }
    }

    /// Decides about a datagram by its first fragment, and lets go what has waited for it.
    fn first_fragment(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        key: DatagramKey,
        arrival: Arrival,
        out: &mut Outbox,
    ) -> Verdict {
        let (verdict, route) = self.decide_first(now, frame, view, &key, arrival);
        for mut waiting in self.fragments.decide(now, key, route) {
            self.counters.released.add(1);
            let verdict = match View::of(waiting.packet()) {
                Ok(view) => self.take_route(&mut waiting, &view, route),
                Err(_) => Verdict::Drop(Reason::Malformed),
            };
            out.push(waiting, verdict);
        }
        verdict
    }

    fn decide_first(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        key: &DatagramKey,
        arrival: Arrival,
    ) -> (Verdict, Route) {
        if self.is_ping_to_vip(view) {
            return match self.answer_ping(frame, view) {
                Verdict::Drop(reason) => (Verdict::Drop(reason), Route::Refused(reason)),
                verdict => (verdict, Route::Echo),
            };
        }
        let Some(tuple) = view.tuple() else {
            return match self.not_for_us(frame, view, Reason::UnsupportedProtocol) {
                Verdict::Forward(reason) => (Verdict::Forward(reason), Route::Unchanged),
                verdict => (verdict, Route::Refused(Reason::UnsupportedProtocol)),
            };
        };
        // The same first fragment again must get the same identification again.
        let identification = match self.fragments.route(key) {
            Some(Route::Translated { id, .. }) => id,
            _ => self.fresh_identification(frame),
        };
        // Whoever passed it to its home has not looked for the flow, and may well own it.
        let arrival = if self.home_of(key) == self.worker { Arrival::Queue } else { arrival };
        let handled = self.packet(now, frame, view, tuple, arrival, Some(identification));
        let route = match (handled.verdict, handled.translated) {
            (Verdict::HandOver(worker), _) => Route::Elsewhere(worker),
            (Verdict::Forward(_), Some((to, traffic))) => Route::Translated {
                source: to.source.address,
                destination: to.destination.address,
                id: identification,
                traffic,
            },
            (Verdict::Forward(_), None) => Route::Unchanged,
            (Verdict::Answer(reason) | Verdict::Drop(reason), _) => Route::Refused(reason),
            (Verdict::Held | Verdict::Deliver(_), _) => Route::Refused(Reason::FragmentOverflow),
        };
        (handled.verdict, route)
    }

    /// Sends a later fragment the way of its first.
    fn take_route(&mut self, frame: &mut Frame, view: &View, route: Route) -> Verdict {
        match route {
            Route::Elsewhere(worker) => Verdict::HandOver(worker),
            Route::Refused(reason) => Verdict::Drop(reason),
            Route::Echo => self.answer_ping(frame, view),
            Route::Unchanged => self.not_for_us(frame, view, Reason::NotOurs),
            Route::Translated { .. } if view.hops <= 1 => Verdict::Drop(Reason::TtlExpired),
            Route::Translated { source, destination, id, traffic } => {
                let passage = Passage { decrement_hops: true, identification: Some(id) };
                rewrite::readdress(frame.packet_mut(), view, source, destination, passage);
                self.count_traffic(traffic, frame.packet().len());
                self.hear_traffic(traffic);
                Verdict::Forward(Reason::Fragment)
            }
        }
    }

    fn home_of(&self, key: &DatagramKey) -> WorkerId {
        let hash = self.home_hash.hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "the remainder of a u8 fits one")]
        WorkerId((hash % u64::from(self.workers)) as u8)
    }
}

/// Counts fragments that had waited in vain.
pub(super) fn given_up(counters: &Counters, lost: &GivenUp) {
    counters.released.add(lost.packets);
    for _ in 0..lost.packets {
        counters.count(Outcome::Dropped, lost.reason);
    }
}
