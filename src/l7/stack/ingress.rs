//! A frame comes in: whose it is, and what it changes.

use std::rc::Rc;

use super::engine::{Opening, announced_window, headers, window_shift};
use super::flow::{Flow, Holder, Seating, State};
use super::guess::Belief;
use super::handshake::HalfOpen;
use super::parking::Parked;
use super::segment::{Bare, BareKind, MIN_MSS, Offer, Segment, checksum_is_right};
use super::sequence::Sequence;
use super::settings::Listener;
use super::tombstone::Late;
use super::wire::Wire;
use super::{Accepted, End, Entry, Key, Owner, Stack, client_of};
use crate::datapath::{Arrival, Instant, Reason, Verdict};
use crate::l7::stream::FlowStream;
use crate::packet::{Endpoint, Family, Frame, Transport, Unreadable, View};
use smoltcp::socket::tcp;
use std::net::IpAddr;
use std::time::Duration;

/// How long ago the last cookie may have been sent for an ACK to be looked at as one.
const COOKIES_LAST: Duration = Duration::from_secs(128);

impl Stack {
    /// Takes a frame in. With [`Verdict::Answer`] it holds an answer afterwards; what
    /// connections have to say because of it comes out of [`Stack::poll_egress`].
    pub fn handle_frame(&mut self, now: Instant, frame: &mut Frame, arrival: Arrival) -> Verdict {
        self.shared.now.set(now);
        self.hear_frame();
        let view = match View::of(frame.packet()) {
            Ok(view) => view,
            Err(Unreadable::HeaderChecksum) => return Verdict::Drop(Reason::BadChecksum),
            Err(Unreadable::TinyFragment) => return Verdict::Drop(Reason::FragmentTiny),
            Err(Unreadable::Unsupported) => return Verdict::Drop(Reason::UnsupportedProtocol),
            Err(Unreadable::Malformed) => return Verdict::Drop(Reason::Malformed),
        };
        match view.transport {
            Transport::Icmp { kind, code } => return self.icmp(now, frame, &view, arrival, kind, code),
            Transport::Tcp { .. } if view.fragment.is_none() => {}
            Transport::Tcp { .. } | Transport::LaterFragment => return Verdict::Drop(Reason::TcpFragment),
            Transport::Udp { .. } | Transport::Other(_) => return Verdict::Drop(Reason::UnsupportedProtocol),
        }
        let Some(segment) = Segment::of(frame.packet(), &view) else {
            return Verdict::Drop(Reason::Malformed);
        };
        if let Some(verdict) = self.elsewhere(&segment.tuple, arrival) {
            return verdict;
        }
        self.hear_segment(&segment.tuple);
        if !checksum_is_right(frame, &view) {
            return Verdict::Drop(Reason::BadChecksum);
        }
        match self.table.get(&segment.tuple) {
            Some(&Entry::Flow(key)) => self.deliver(now, frame, &view, &segment, key, Reason::KnownFlow),
            Some(&Entry::HalfOpen(key)) => self.complete(now, frame, &view, &segment, key),
            Some(&Entry::Tombstone(key)) => self.bid_farewell(now, frame, &segment, key),
            None => self.meet(now, frame, &view, &segment, None),
        }
    }

    /// The verdict on what another worker owns. What was handed over stays here, so that two
    /// workers that disagree cannot pass a frame round for ever.
    pub(super) fn elsewhere(&self, tuple: &crate::packet::FiveTuple, arrival: Arrival) -> Option<Verdict> {
        let owner = self.owner(tuple);
        (owner != self.share.worker && arrival == Arrival::Queue).then_some(Verdict::HandOver(owner))
    }

    fn meet(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        segment: &Segment,
        not_before: Option<Sequence>,
    ) -> Verdict {
        let (client, vip) = (segment.tuple.source, segment.tuple.destination);
        if !can_be_on_a_wire(client) || vip.port == 0 {
            return Verdict::Drop(Reason::Martian);
        }
        if client == vip {
            return Verdict::Drop(Reason::Land);
        }
        let Some(&listener) = self.listeners.get(&vip) else {
            return self.refuse(now, frame, segment, Reason::NoService);
        };
        let flags = segment.flags;
        if flags.rst() {
            return Verdict::Drop(Reason::NoFlow);
        }
        if flags.syn() && !flags.ack() && !flags.fin() {
            return self.first(now, frame, segment, listener, not_before);
        }
        if flags.ack()
            && !flags.syn()
            && self.cookie_at.is_some_and(|at| now.since(at) < COOKIES_LAST)
            && let (theirs, ours) = (segment.sequence.minus(1), segment.acknowledgement.minus(1))
            && let Some(offer) = self.numbers.open_cookie(now, &segment.tuple, theirs, ours)
        {
            self.counts.cookies_taken += 1;
            let opening = Opening {
                tuple: segment.tuple,
                theirs,
                ours,
                offer,
                window: segment.window,
                round_trip: Duration::ZERO,
            };
            return self.open(now, frame, view, segment, &opening, listener);
        }
        self.refuse(now, frame, segment, Reason::NoFlow)
    }

    /// Answers the first segment of a connection.
    fn first(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        segment: &Segment,
        listener: Listener,
        not_before: Option<Sequence>,
    ) -> Verdict {
        let client = client_of(&segment.tuple);
        let (held, limits) = (self.held(client), self.settings.limits);
        if self.flows.len() >= limits.flows {
            return self.refuse(now, frame, segment, Reason::TableFull);
        }
        if held.flows >= limits.flows_per_client {
            return self.refuse(now, frame, segment, Reason::ClientLimit);
        }
        let (tuple, theirs, offer) = (segment.tuple, segment.sequence, segment.offer(frame.packet()));
        if self.half_open.len() >= limits.half_open || held.half_open >= limits.half_open_per_client {
            let (ours, told) = self.numbers.cookie(now, &tuple, theirs, offer);
            self.cookie_at = Some(now);
            self.counts.cookies_sent += 1;
            self.syn_ack(&tuple, ours, theirs, told, listener).replace(frame);
            return Verdict::Answer(Reason::SynCookie);
        }
        let initial = self.numbers.initial(now, &tuple);
        let ours = not_before.map_or(initial, |least| initial.max(least));
        let (half_open, timers) = (&mut self.half_open, &mut self.timers);
        let key = half_open.insert_with(|key| HalfOpen {
            tuple,
            theirs,
            ours,
            offer,
            sent_at: now,
            resends: 0,
            timer: timers.add(now + HalfOpen::patience(0), Owner::HalfOpen(key)),
        });
        self.table.insert(tuple, Entry::HalfOpen(key));
        self.count_client(client, |held| held.half_open += 1);
        self.syn_ack(&tuple, ours, theirs, offer, listener).replace(frame);
        Verdict::Answer(Reason::Handshake)
    }

    /// The answer to a SYN: our real segment size, and windows as smoltcp will have them.
    pub(super) fn syn_ack(
        &self,
        tuple: &crate::packet::FiveTuple,
        ours: Sequence,
        theirs: Sequence,
        offer: Offer,
        listener: Listener,
    ) -> Bare {
        let offer = Offer {
            mss: self.settings.device.mtu.saturating_sub(headers(tuple.source.address.family())).max(MIN_MSS),
            scale: offer.scale.map(|_| window_shift(listener)),
            sack: offer.sack,
        };
        Bare {
            from: tuple.destination,
            to: tuple.source,
            kind: BareKind::SynAck(offer, theirs.plus(1)),
            sequence: ours,
            window: announced_window(listener),
        }
    }

    fn complete(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        segment: &Segment,
        key: Key,
    ) -> Verdict {
        let Some(&half_open) = self.half_open.get(key) else { return Verdict::Drop(Reason::NoFlow) };
        let Some(&listener) = self.listeners.get(&half_open.tuple.destination) else {
            self.forget_half_open(key);
            return self.refuse(now, frame, segment, Reason::NoService);
        };
        let (flags, in_order) = (segment.flags, half_open.theirs.plus(1));
        if flags.rst() {
            // Only the very next number is believed (RFC 5961 §3.2).
            if segment.sequence != in_order {
                return Verdict::Drop(Reason::OutOfWindow);
            }
            self.forget_half_open(key);
            return Verdict::Deliver(Reason::Handshake);
        }
        if flags.syn() {
            if flags.ack() || flags.fin() {
                return Verdict::Drop(Reason::OutOfWindow);
            }
            if segment.sequence != half_open.theirs {
                // The client has begun anew, and knows nothing of the first attempt.
                self.forget_half_open(key);
                return self.meet(now, frame, view, segment, Some(half_open.ours));
            }
            if let Some(record) = self.half_open.get_mut(key) {
                // Its round trip cannot be told any more (Karn, RFC 6298 §3).
                record.resends = record.resends.max(1);
            }
            self.syn_ack(&half_open.tuple, half_open.ours, half_open.theirs, half_open.offer, listener)
                .replace(frame);
            return Verdict::Answer(Reason::Handshake);
        }
        if !flags.ack() {
            return Verdict::Drop(Reason::OutOfWindow);
        }
        if segment.acknowledgement != half_open.ours.plus(1) {
            return self.refuse(now, frame, segment, Reason::NoFlow);
        }
        if segment.sequence.since(in_order) >= u32::from(announced_window(listener)) {
            return Verdict::Drop(Reason::OutOfWindow);
        }
        self.forget_half_open(key);
        let opening = Opening {
            tuple: half_open.tuple,
            theirs: half_open.theirs,
            ours: half_open.ours,
            offer: half_open.offer,
            window: segment.window,
            round_trip: if half_open.resends == 0 { now.since(half_open.sent_at) } else { Duration::ZERO },
        };
        self.open(now, frame, view, segment, &opening, listener)
    }

    pub(super) fn forget_half_open(&mut self, key: Key) {
        if let Some(gone) = self.half_open.remove(key) {
            self.timers.remove(gone.timer);
            self.table.remove(&gone.tuple);
            self.count_client(client_of(&gone.tuple), |held| held.half_open -= 1);
        }
    }

    /// Opens a connection whose client has proved its address, with the segment that did so.
    fn open(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        segment: &Segment,
        opening: &Opening,
        listener: Listener,
    ) -> Verdict {
        let client = client_of(&opening.tuple);
        let (limits, timeouts) = (self.settings.limits, self.settings.timeouts);
        if self.flows.len() >= limits.flows {
            return self.refuse(now, frame, segment, Reason::TableFull);
        }
        if self.held(client).flows >= limits.flows_per_client {
            return self.refuse(now, frame, segment, Reason::ClientLimit);
        }
        let device = self.settings.device;
        let shift = if opening.offer.scale.is_some() { window_shift(listener) } else { 0 };
        let wire = Wire {
            offset: 0,
            mss: opening
                .offer
                .mss
                .min(device.mtu.saturating_sub(headers(opening.tuple.source.address.family()))),
            offloads: device.offloads,
            next: opening.ours.plus(1),
            edge: opening.ours.plus(1),
            clipped: false,
            acknowledged: opening.theirs.plus(1),
            // What the client knows is the window in the SYN-ACK, which is not shifted.
            window: announced_window(listener) >> shift,
            shift,
        };
        let (timers, shared) = (&mut self.timers, &self.shared);
        let key = self.flows.insert_with(|key| {
            let deadline = now + timeouts.keep_alive;
            let state = State {
                seating: Seating::Parked(None),
                wire,
                timer: timers.add(deadline, Owner::Flow(key)),
                armed_at: deadline,
                deadline,
                offer: opening.offer,
                listener,
                client_window: segment.window,
                client_acknowledged: wire.next,
                stalled_at: None,
                round_trip: opening.round_trip,
                heard_at: now,
                probed_at: now,
                over_since: None,
                active_at: now,
                acknowledge_by: None,
                expected: wire.acknowledged,
                orphan_until: None,
                holder: Holder::Stream,
                end: None,
                received_all: false,
                shut: false,
                listed: true,
            };
            Rc::new(Flow::new(opening.tuple, key, Rc::clone(shared), state))
        });
        self.table.insert(opening.tuple, Entry::Flow(key));
        self.count_client(client, |held| held.flows += 1);
        self.counts.opened += 1;
        if let Some(flow) = self.flows.get(key) {
            self.accepted.push_back(Accepted {
                client: opening.tuple.source,
                vip: opening.tuple.destination,
                stream: FlowStream::new(Rc::clone(flow)),
            });
        }
        self.deliver(now, frame, view, segment, key, Reason::NewFlow)
    }

    fn deliver(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        segment: &Segment,
        key: Key,
        reason: Reason,
    ) -> Verdict {
        let Some(flow) = self.flows.get(key).map(Rc::clone) else { return Verdict::Drop(Reason::NoFlow) };
        let mut state = flow.state.borrow_mut();
        let state = &mut *state;
        let flags = segment.flags;
        if flags.syn() || flags.rst() {
            match state.belief(segment) {
                Belief::True => {}
                Belief::Doubtful => {
                    let challenge = state.acknowledgement(&flow);
                    return self.answer(now, frame, &challenge, Reason::ChallengeAck);
                }
                Belief::False => return Verdict::Drop(Reason::OutOfWindow),
            }
        } else if !flags.ack() {
            return Verdict::Drop(Reason::OutOfWindow);
        }
        state.heard_at = now;
        state.note_window(segment);
        if matches!(state.seating, Seating::Parked(_)) && !flags.rst() {
            match state.while_parked(segment) {
                Parked::Wakes => {}
                Parked::Noted => return Verdict::Deliver(reason),
                Parked::Asked => {
                    let acknowledgement = state.acknowledgement(&flow);
                    return self.answer(now, frame, &acknowledgement, reason);
                }
            }
        }
        let Some(engine) = flow.seated(state) else { return Verdict::Drop(Reason::NoFlow) };

        let before = engine.socket().state();
        let (queued, unread) = (engine.socket().send_queue(), engine.socket().recv_queue());
        if !flags.rst() {
            state.note_acknowledgement(segment.acknowledgement, segment.window);
        }
        state.wire.inward(frame.packet_mut(), segment);
        let range = present(frame.packet_mut(), view);
        let packet = frame.packet().get(range).unwrap_or_default();
        let mut interface = self.shared.interface.borrow_mut();
        let Some(engine) = state.seating.engine() else { return Verdict::Drop(Reason::NoFlow) };
        engine.receive(&mut interface, now, packet, &mut state.wire, &mut self.replies);
        let socket = engine.socket();
        if segment.payload > 0 || socket.send_queue() != queued {
            state.active_at = now;
        }
        state.note_segment(now, segment);
        state.note_received(before, unread);
        let Some(engine) = state.seating.engine() else { return Verdict::Drop(Reason::NoFlow) };
        let socket = engine.socket();
        if socket.state() == tcp::State::Closed && before != tcp::State::Closed {
            let end = if flags.rst() { End::Reset } else { End::Closed };
            state.end.get_or_insert(end);
        }
        flow.touch();
        Verdict::Deliver(reason)
    }

    fn bid_farewell(&mut self, now: Instant, frame: &mut Frame, segment: &Segment, key: Key) -> Verdict {
        let Some(stone) = self.tombstones.get_mut(key) else { return Verdict::Drop(Reason::NoFlow) };
        let late = stone.take(now, segment);
        let acknowledgement = Bare {
            from: stone.tuple.destination,
            to: stone.tuple.source,
            kind: BareKind::Ack(stone.expected),
            sequence: stone.next,
            window: stone.window,
        };
        let timer = stone.timer;
        match late {
            Late::Acknowledge => self.answer(now, frame, &acknowledgement, Reason::Closing),
            Late::WaitAgain => {
                self.timers.set(timer, now + self.settings.timeouts.time_wait);
                self.answer(now, frame, &acknowledgement, Reason::Closing)
            }
            Late::Reset => {
                self.forget_tombstone(key);
                self.refuse(now, frame, segment, Reason::Closing)
            }
            Late::Forget => {
                self.forget_tombstone(key);
                Verdict::Deliver(Reason::Closing)
            }
            Late::Ignore => Verdict::Deliver(Reason::Closing),
            Late::Anew(least) => {
                self.forget_tombstone(key);
                match View::of(frame.packet()) {
                    Ok(view) => self.meet(now, frame, &view, segment, Some(least)),
                    Err(_) => Verdict::Drop(Reason::Malformed),
                }
            }
        }
    }

    pub(super) fn forget_tombstone(&mut self, key: Key) {
        if let Some(gone) = self.tombstones.remove(key) {
            self.timers.remove(gone.timer);
            self.table.remove(&gone.tuple);
        }
    }

    /// Answers by a reset, if that is no answer to a reset and the limit allows it.
    fn refuse(&mut self, now: Instant, frame: &mut Frame, segment: &Segment, reason: Reason) -> Verdict {
        if segment.flags.rst() {
            return Verdict::Drop(reason);
        }
        self.answer(now, frame, &Bare::reset_to(segment), reason)
    }

    /// Answers by a bare segment, if the limit allows it.
    fn answer(&mut self, now: Instant, frame: &mut Frame, bare: &Bare, reason: Reason) -> Verdict {
        if !self.answers.allows(now) {
            self.counts.answers_suppressed += 1;
            return Verdict::Drop(reason);
        }
        bare.replace(frame);
        Verdict::Answer(reason)
    }
}

/// The part of a packet that smoltcp is to see: without padding, and without extension headers,
/// which it does not pass to TCP.
fn present(packet: &mut [u8], view: &View) -> std::ops::Range<usize> {
    let start = match view.family {
        Family::V4 => 0,
        Family::V6 => view.transport_at.saturating_sub(40),
    };
    if start > 0 && view.transport_at <= packet.len() {
        packet.copy_within(0..40, start);
        let length = u16::try_from(view.length.saturating_sub(view.transport_at)).unwrap_or(u16::MAX);
        if let Some(header) = packet.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<40>) {
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header[6] = 6;
        }
    }
    start..view.length
}

/// Whether an endpoint can be a client's.
fn can_be_on_a_wire(client: Endpoint) -> bool {
    let allowed = match IpAddr::from(client.address) {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_loopback())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback()),
    };
    client.port != 0 && allowed
}
