//! Frames go out, time passes, and what is over is cleared away.

use std::rc::Rc;
use std::task::Waker;

use smoltcp::socket::tcp::{RecvError, State as TcpState};

use super::engine::{Reply, Said};
use super::flow::{End, Flow, Holder, Seating, State};
use super::handshake::{HalfOpen, RESENDS};
use super::tombstone::{Phase, Tombstone};
use super::{Entry, Key, Owner, Stack, client_of};
use crate::datapath::Instant;
use crate::packet::{Frame, Offload};

/// How many timers one call takes at most.
const TIMERS_AT_ONCE: usize = 1024;

/// How long a timer waits whose flow is about to say something, which sets it anew.
const MEANWHILE: std::time::Duration = std::time::Duration::from_secs(1);

/// How long smoltcp is sure to stay in TIME-WAIT; it would be 10 seconds.
const STILL_WAITS: std::time::Duration = std::time::Duration::from_secs(5);

impl Stack {
    /// Gives all frames that are to be sent now to `sink`, one after the other in the same
    /// buffer. A connection whose turn is over before it has said all stays dirty:
    /// [`Stack::poll_timeout`] then gives a time that has passed.
    pub fn poll_egress(&mut self, now: Instant, sink: &mut impl FnMut(&mut Frame)) {
        self.shared.now.set(now);
        // What answers a packet goes before what is new.
        for reply in self.replies.drain(..) {
            let [frame, _] = &mut self.frames;
            frame.rewrite(|space| {
                let packet = reply.packet();
                if let Some(space) = space.get_mut(..packet.len()) {
                    space.copy_from_slice(packet);
                }
                packet.len()
            });
            (frame.offload, frame.tags.flow) = (Offload::default(), None);
            self.counts.frames_sent += 1;
            sink(frame);
        }
        let mut turn = std::mem::take(&mut self.turn);
        self.shared.swap(&mut turn);
        for key in turn.drain(..) {
            let Some(flow) = self.flows.get(key) else { continue };
            let flow = Rc::clone(flow);
            flow.untouch();
            if self.speak(now, &flow, sink) == Said::Part {
                flow.touch();
            } else {
                self.settle(now, key, &flow);
            }
        }
        self.turn = turn;
    }

    fn speak(&mut self, now: Instant, flow: &Flow, sink: &mut impl FnMut(&mut Frame)) -> Said {
        let mut state = flow.state.borrow_mut();
        let state = &mut *state;
        if state.seating.engine().is_none() {
            return Said::All;
        }
        // smoltcp leaves TIME-WAIT by itself, and throws away what was not read then.
        if state.over_since.is_some_and(|since| now >= since + STILL_WAITS) {
            return Said::All;
        }
        if state.may_keep_silent(now) {
            return Said::All;
        }
        state.acknowledge_by = None;
        if state.shut {
            state.close();
        }
        let Some(engine) = state.seating.engine() else { return Said::All };
        if state.holder == Holder::Nobody {
            // Nobody reads any more. What still comes is thrown away, so that it does not keep
            // the client from reading what we have sent, up to our FIN.
            while matches!(engine.socket().recv(|data| (data.len(), data.len())), Ok(1..)) {}
            state.orphan_until.get_or_insert(now + self.settings.timeouts.orphan);
        }
        let sent = &mut self.counts.frames_sent;
        let number = flow.key.number();
        let counted = |frame: &mut Frame| {
            *sent += 1;
            frame.tags.flow = Some(number);
            sink(frame);
        };
        engine.transmit(
            &mut self.shared.interface.borrow_mut(),
            now,
            self.settings.limits.turn_bytes,
            &mut state.wire,
            &mut self.frames,
            counted,
        )
    }

    /// Puts a flow where it belongs now that it has said all: back to wait, among the
    /// tombstones, or away.
    fn settle(&mut self, now: Instant, key: Key, flow: &Flow) {
        let mut state = flow.state.borrow_mut();
        let state = &mut *state;
        if state.end.is_some() && state.seating.engine().is_none() {
            self.unlist(flow, state);
            return self.release(key, flow, state);
        }
        let timeouts = self.settings.timeouts;
        let alive = state.alive_deadline(&timeouts);
        if state.is_quiet() && now >= state.active_at + timeouts.park {
            flow.park(state);
            return state.due(&mut self.timers, alive.min(state.active_at + timeouts.idle));
        }
        let quiet = state.is_quiet();
        let Some(engine) = state.seating.engine() else { return };
        let socket = engine.socket();
        let gone = state.holder == Holder::Nobody;
        let drained = gone || socket.recv_queue() == 0;
        match socket.state() {
            TcpState::Closed => {
                state.end.get_or_insert(End::TimedOut);
                self.unlist(flow, state);
                if drained {
                    self.release(key, flow, state);
                } else {
                    // The bytes wait for their reader, and nothing else will happen.
                    state.due(&mut self.timers, now + timeouts.idle);
                }
            }
            TcpState::TimeWait if drained => self.bury(now, key, flow, state, Phase::TimeWait),
            TcpState::TimeWait => {
                state.over_since.get_or_insert(now);
                state.due(&mut self.timers, state.active_at + timeouts.idle);
            }
            TcpState::FinWait2 if gone => {
                let lingers_until = now + self.settings.timeouts.linger;
                self.bury(now, key, flow, state, Phase::FinWait2(lingers_until));
            }
            _ => {
                let limit = if quiet { timeouts.park } else { timeouts.idle };
                let due = match state.acknowledge_by {
                    // smoltcp would say it at once.
                    Some(by) => Some(by),
                    None => engine.deadline(&mut self.shared.interface.borrow_mut(), now),
                };
                let due = state.mend(flow, now, due, &mut self.replies);
                let deadline = [due, state.orphan_until, Some(state.active_at + limit)]
                    .into_iter()
                    .flatten()
                    .fold(alive, Instant::min);
                state.due(&mut self.timers, deadline);
            }
        }
    }

    /// Leaves a tombstone where a flow was, if there is room for one.
    fn bury(&mut self, now: Instant, key: Key, flow: &Flow, state: &mut State, phase: Phase) {
        let (tuple, wire) = (flow.tuple, state.wire);
        state.end.get_or_insert(End::Closed);
        self.unlist(flow, state);
        self.release(key, flow, state);
        if self.tombstones.len() >= self.settings.limits.tombstones || self.table.contains_key(&tuple) {
            return;
        }
        let timeouts = self.settings.timeouts;
        let until = now
            + match phase {
                Phase::FinWait2(_) => timeouts.fin_wait_2,
                Phase::TimeWait => timeouts.time_wait,
            };
        let timers = &mut self.timers;
        let key = self.tombstones.insert_with(|key| Tombstone {
            tuple,
            phase,
            next: wire.next,
            expected: wire.acknowledged,
            window: wire.window,
            timer: timers.add(until, Owner::Tombstone(key)),
        });
        self.table.insert(tuple, Entry::Tombstone(key));
    }

    /// Takes a flow out of the table, so that its client may use the tuple again.
    fn unlist(&mut self, flow: &Flow, state: &mut State) {
        if std::mem::replace(&mut state.listed, false) {
            self.table.remove(&flow.tuple);
        }
    }

    /// Gives a flow's rings back and forgets it. Its stream, if there is one, keeps the end.
    fn release(&mut self, key: Key, flow: &Flow, state: &mut State) {
        let seating = std::mem::replace(&mut state.seating, Seating::Over);
        if self.flows.remove(key).is_none() {
            return;
        }
        self.timers.remove(state.timer);
        self.count_client(client_of(&flow.tuple), |held| held.flows -= 1);
        self.counts.ended += 1;
        match state.end {
            Some(End::Reset) => self.counts.reset += 1,
            Some(End::TimedOut) => self.counts.timed_out += 1,
            Some(End::Aborted) => self.counts.aborted += 1,
            Some(End::Closed) | None => {}
        }
        match seating {
            Seating::Seated(mut engine) => {
                state.received_all = engine.socket().recv(|_| (0, ())) == Err(RecvError::Finished);
                // Wakes whoever reads or writes.
                self.shared.pool.borrow_mut().give_back(engine.into_seat());
            }
            Seating::Parked(reader) => reader.into_iter().for_each(Waker::wake),
            Seating::Over => {}
        }
    }

    /// Does what has fallen due. Follow with [`Stack::poll_egress`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.shared.now.set(now);
        for _ in 0..TIMERS_AT_ONCE {
            let Some((timer, owner)) = self.timers.due(now) else { return };
            match owner {
                Owner::Flow(key) => {
                    let Some(flow) = self.flows.get(key).map(Rc::clone) else {
                        debug_assert!(false, "a flow that is gone has no timer");
                        self.timers.remove(timer);
                        continue;
                    };
                    let mut state = flow.state.borrow_mut();
                    let state = &mut *state;
                    if state.deadline > now {
                        state.arm(&mut self.timers, state.deadline);
                        continue;
                    }
                    let timeouts = self.settings.timeouts;
                    if state.is_lost(now, &timeouts) {
                        state.end.get_or_insert(End::TimedOut);
                        if let Some(engine) = flow.seated(state) {
                            engine.socket().abort();
                        }
                    } else if state.end.is_none() {
                        state.probe(&flow, now, &timeouts, &mut self.replies);
                    }
                    if state.seating.engine().is_some() {
                        state.arm(&mut self.timers, now + MEANWHILE);
                        flow.touch();
                    } else {
                        state.deadline = state.alive_deadline(&timeouts).min(state.active_at + timeouts.idle);
                        state.arm(&mut self.timers, state.deadline);
                    }
                }
                Owner::HalfOpen(key) => self.remind(now, key),
                Owner::Tombstone(key) => self.forget_tombstone(key),
            }
        }
    }

    /// Sends a SYN-ACK again, or gives a handshake up.
    fn remind(&mut self, now: Instant, key: Key) {
        let Some(half_open) = self.half_open.get_mut(key) else { return };
        let listener = self.listeners.get(&half_open.tuple.destination).copied();
        let (Some(listener), 0..RESENDS) = (listener, half_open.resends) else {
            self.forget_half_open(key);
            return;
        };
        half_open.resends += 1;
        half_open.sent_at = now;
        let half_open = *half_open;
        self.timers.set(half_open.timer, now + HalfOpen::patience(half_open.resends));
        let syn_ack =
            self.syn_ack(&half_open.tuple, half_open.ours, half_open.theirs, half_open.offer, listener);
        self.replies.push(Reply::new(|space| syn_ack.write(space)));
    }

    /// When [`Stack::handle_timeout`] and [`Stack::poll_egress`] must be called next, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.replies.is_empty() && self.shared.is_clean() {
            self.timers.next()
        } else {
            Some(Instant::START)
        }
    }
}
