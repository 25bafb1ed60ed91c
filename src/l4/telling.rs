//! What the translator says of its decisions, to whoever listens.
//!
//! The facts are taken where they are known, between one step and the next: the state of a flow before a packet is gone
//! when the verdict is there. Where nobody listens, each place costs a look at a field that says so.

use super::fragments::Traffic;
use super::translator::Translator;
use crate::datapath::{Decision, FlowNumber, Listening, Side, VipId};
use crate::flow::{Binding, Direction, FlowId, State};

impl Translator {
    pub(super) fn set_listening(&mut self, listening: Listening) {
        self.heard = match listening {
            Listening::No => None,
            Listening::Yes => Some(Box::default()),
        };
    }

    /// A frame has come: nothing is known of it.
    #[inline]
    pub(super) fn hear_frame(&mut self) {
        if let Some(heard) = &mut self.heard {
            **heard = Decision::default();
        }
    }

    /// It belongs to this flow, which has not seen it yet.
    #[inline]
    pub(super) fn hear_flow(&mut self, flow: FlowId, direction: Direction) {
        if self.heard.is_some() {
            self.hear_bound(flow, direction, Decision::BOUND);
            let before = self.flows.state(flow).map(State::word);
            if let Some(heard) = &mut self.heard {
                heard.before = before;
            }
        }
    }

    /// It is for this VIP, and of no flow.
    #[inline]
    pub(super) fn hear_vip(&mut self, vip: VipId) {
        if let Some(heard) = &mut self.heard {
            heard.service = self.balancer.vip(vip).map(|vip| vip.listen.endpoint);
        }
    }

    /// It opened this flow.
    pub(super) fn hear_opened(&mut self, flow: FlowId) {
        if self.heard.is_none() {
            return;
        }
        let service = self.flows.binding(flow).and_then(|binding| self.balancer.vip(binding.vip));
        let service = service.and_then(|vip| self.balancer.service(vip.service));
        self.hear_bound(flow, Direction::Original, service.map_or("", |service| service.scheduler.word()));
    }

    /// The flow has seen it.
    #[inline]
    pub(super) fn hear_after(&mut self, flow: FlowId) {
        if let Some(heard) = &mut self.heard {
            heard.after = self.flows.state(flow).map(State::word);
        }
    }

    /// It came from the side of the backends, as far as can be told.
    pub(super) fn hear_backend_side(&mut self) {
        if let Some(heard) = &mut self.heard {
            heard.side = Side::Backend;
        }
    }

    /// It goes the way of another one, or several do.
    pub(super) fn hear_traffic(&mut self, traffic: Traffic) {
        let Some(heard) = &mut self.heard else { return };
        let (Traffic::To(backend) | Traffic::From(backend)) = traffic;
        heard.side = match traffic {
            Traffic::To(_) => Side::Client,
            Traffic::From(_) => Side::Backend,
        };
        heard.backend = self.balancer.backend(backend).map(|backend| backend.endpoint);
        heard.why.get_or_insert(Decision::BOUND);
    }

    fn hear_bound(&mut self, flow: FlowId, direction: Direction, why: &'static str) {
        let Some(Binding { vip, backend, .. }) = self.flows.binding(flow) else { return };
        let service = self.balancer.vip(vip).map(|vip| vip.listen.endpoint);
        let backend = self.balancer.backend(backend).map(|backend| backend.endpoint);
        let Some(heard) = &mut self.heard else { return };
        heard.flow = Some(FlowNumber { worker: self.worker, number: flow.number() });
        heard.side = match direction {
            Direction::Original => Side::Client,
            Direction::Reply => Side::Backend,
        };
        (heard.service, heard.backend, heard.why) = (service, backend, Some(why));
    }
}
