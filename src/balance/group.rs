//! A group of backends by itself: what layer 7 sends requests to.
//!
//! [`Balancer`](super::Balancer) keeps a flow in the family of its VIP and has the backends of all services under one
//! count. A proxy opens connections of its own: families may be mixed, and what is picked for is a request.
//! Schedulers, health and trials are the same:
//!
//! ```text
//!   request ──pick──▶ backend ──opened──▶ in flight ──accepted | refused──▶ health
//!      ▲                                     │
//!      └── pick again, but avoid that one ◀──┴──closed
//! ```
//!
//! Live is what is in flight: `lc`, `wlc` and `p2c` look at requests, not at connections. Backends are named by their
//! place in the group, from 0. A backend that drains has a place and is never picked.

use std::sync::Arc;

use rand::Rng;

use crate::datapath::{BackendId, Instant, ServiceId};
use crate::packet::FiveTuple;

use super::backend::{Backend, BackendSpec, State};
use super::error::BalanceError;
use super::health::{Health, PassiveHealth};
use super::maglev;
use super::scheduler::{Group, Member, SchedulerKind};

/// Backends that do the same, and the scheduler that shares out requests among them.
#[derive(Debug)]
pub struct BackendGroup {
    backends: Box<[Backend]>,
    group: Group,
}

impl BackendGroup {
    /// Builds it. `name` is what the error says, `number` what [`Backend::service`] says.
    ///
    /// # Errors
    ///
    /// No backend, too many, one that is there twice, or one at port 0.
    pub fn new(
        name: &str,
        number: ServiceId,
        scheduler: SchedulerKind,
        specs: &[BackendSpec],
        passive: PassiveHealth,
    ) -> Result<Self, BalanceError> {
        let service = || name.to_owned();
        if specs.is_empty() {
            return Err(BalanceError::NoBackend { service: service() });
        }
        if specs.len() > maglev::MOST_BACKENDS {
            return Err(BalanceError::TooManyBackends { service: service(), most: maglev::MOST_BACKENDS });
        }
        let mut backends: Vec<Backend> = Vec::with_capacity(specs.len());
        let mut members = Vec::with_capacity(specs.len());
        let mut seen = std::collections::HashSet::new();
        for (id, &BackendSpec { endpoint, weight, drain }) in (0..).map(BackendId).zip(specs) {
            if endpoint.port == 0 {
                return Err(BalanceError::BackendPortZero { service: service(), backend: endpoint });
            }
            if !seen.insert(endpoint) {
                return Err(BalanceError::DuplicateBackend { service: service(), backend: endpoint });
            }
            let state = Arc::new(State::new(passive));
            let backend = Backend { endpoint, service: number, weight, draining: drain, state };
            if !drain {
                members.push(Member::new(id, &backend));
            }
            backends.push(backend);
        }
        Ok(Self { backends: backends.into(), group: Group::new(scheduler, members) })
    }

    /// All of them, by their places, draining ones as well.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend for a request, by the client's endpoint and the one that it opened its connection to; `None` when no
    /// backend that takes requests is up. With backends to avoid: one that is none of these.
    pub fn pick<R: Rng + ?Sized>(
        &self,
        now: Instant,
        tuple: &FiveTuple,
        avoid: &[BackendId],
        chance: &mut R,
    ) -> Option<BackendId> {
        if avoid.is_empty() {
            self.group.pick(now, tuple, chance)
        } else {
            self.group.pick_but(now, tuple, avoid)
        }
    }

    /// Whether a backend takes a request of a client that stays with it: it is up, or this is its trial. One that drains
    /// keeps the clients that it has.
    pub fn takes(&self, now: Instant, backend: BackendId) -> bool {
        let health = self.backends.get(backend.index()).map(|backend| &backend.state.health);
        health.is_some_and(|health| health.health() == Health::Up || health.take_trial(now))
    }

    /// Whether any backend is up, or due to be tried.
    pub fn has_any(&self, now: Instant) -> bool {
        let mut takers = self.backends.iter().filter(|backend| !backend.draining);
        takers.any(|backend| backend.state.health.is_available(now))
    }

    /// A request was given to this backend.
    pub fn opened(&self, backend: BackendId) {
        if let Some(backend) = self.backends.get(backend.index()) {
            backend.state.opened();
        }
    }

    /// A request of this backend is over.
    pub fn closed(&self, backend: BackendId) {
        if let Some(backend) = self.backends.get(backend.index()) {
            backend.state.closed();
        }
    }

    /// The backend answered. Its new health, where this has changed it.
    pub fn accepted(&self, backend: BackendId) -> Option<Health> {
        let backend = self.backends.get(backend.index())?;
        Some(self.note(backend, backend.state.health.accepted()?))
    }

    /// The backend could not be reached. Its new health, where this has changed it.
    pub fn refused(&self, now: Instant, backend: BackendId) -> Option<Health> {
        let backend = self.backends.get(backend.index())?;
        Some(self.note(backend, backend.state.health.refused(now)?))
    }

    fn note(&self, backend: &Backend, health: Health) -> Health {
        if !backend.draining {
            self.group.changed(health);
        }
        health
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balance::Weight;
    use crate::packet::{Endpoint, Protocol};

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn spec(text: &str) -> BackendSpec {
        BackendSpec { endpoint: endpoint(text), weight: Weight::ONE, drain: false }
    }

    fn mixed() -> Vec<BackendSpec> {
        vec![spec("10.0.0.1:80"), spec("[2001:db8::2]:80"), spec("10.0.0.3:80"), spec("10.0.0.4:80")]
    }

    fn group(kind: SchedulerKind, specs: &[BackendSpec]) -> BackendGroup {
        let passive = PassiveHealth { fall: 1, retry: Duration::from_secs(10) };
        BackendGroup::new("web", ServiceId(0), kind, specs, passive).unwrap()
    }

    fn tuple(port: u16) -> FiveTuple {
        let source = Endpoint { port, ..endpoint("198.51.100.1:1") };
        FiveTuple { protocol: Protocol::Tcp, source, destination: endpoint("203.0.113.1:443") }
    }

    #[test]
    fn every_scheduler_serves_both_families_and_avoids_whom_it_is_told_to() {
        let mut chance = SmallRng::seed_from_u64(7);
        for &kind in SchedulerKind::ALL {
            let group = group(kind, &mixed());
            let mut seen = HashSet::new();
            for port in 1..400 {
                let first = group.pick(Instant::START, &tuple(port), &[], &mut chance).unwrap();
                seen.insert(first);
                let second = group.pick(Instant::START, &tuple(port), &[first], &mut chance).unwrap();
                assert_ne!(first, second, "{kind}");
                let all: Vec<_> = (0..4).map(BackendId).collect();
                assert_eq!(group.pick(Instant::START, &tuple(port), &all, &mut chance), None, "{kind}");
            }
            // `sh` sees one client here.
            assert_eq!(seen.len(), if kind == SchedulerKind::Sh { 1 } else { 4 }, "{kind}");
        }
    }

    #[test]
    fn hashed_flows_that_avoid_a_backend_are_spread_and_stay() {
        let mut chance = SmallRng::seed_from_u64(7);
        let group = group(SchedulerKind::Mh, &mixed());
        let away = BackendId(0);
        let second =
            |port| group.pick(Instant::START, &tuple(port), &[away], &mut SmallRng::seed_from_u64(1));
        let moved: Vec<u16> = (1..400)
            .filter(|&port| group.pick(Instant::START, &tuple(port), &[], &mut chance) == Some(away))
            .collect();
        let targets: HashSet<_> = moved.iter().map(|&port| second(port)).collect();
        assert_eq!(targets.len(), 3);
        assert!(moved.iter().all(|&port| second(port) == second(port)));
    }

    #[test]
    fn a_busy_backend_is_not_where_a_refused_request_goes() {
        let mut chance = SmallRng::seed_from_u64(7);
        let group = group(SchedulerKind::Rr, &mixed());
        for backend in [1, 1, 2, 2, 2] {
            group.opened(BackendId(backend));
        }
        assert_eq!(group.pick(Instant::START, &tuple(1), &[BackendId(0)], &mut chance), Some(BackendId(3)));
        group.opened(BackendId(3));
        let avoid = [BackendId(0), BackendId(3)];
        assert_eq!(group.pick(Instant::START, &tuple(1), &avoid, &mut chance), Some(BackendId(1)));
        group.closed(BackendId(1));
        assert_eq!(group.backends()[1].live_flows(), 1);
    }

    #[test]
    fn one_that_is_down_is_passed_over_until_its_trial() {
        let mut chance = SmallRng::seed_from_u64(7);
        let group = group(SchedulerKind::Rr, &mixed()[..2]);
        assert!(group.refused(Instant::START, BackendId(0)).is_some());
        for _ in 0..4 {
            assert_eq!(group.pick(Instant::START, &tuple(1), &[], &mut chance), Some(BackendId(1)));
        }
        assert!(group.refused(Instant::START, BackendId(1)).is_some());
        assert!(!group.has_any(Instant::START));
        assert_eq!(group.pick(Instant::START, &tuple(1), &[], &mut chance), None);
        let later = Instant::START + Duration::from_secs(11);
        assert!(group.has_any(later));
        assert!(group.pick(later, &tuple(1), &[], &mut chance).is_some());
        assert_eq!(group.accepted(BackendId(0)), Some(Health::Up));
    }

    #[test]
    fn a_client_stays_with_a_backend_that_is_up_or_on_trial() {
        let drains = BackendSpec { drain: true, ..spec("10.0.0.1:80") };
        let group = group(SchedulerKind::Rr, &[drains, spec("10.0.0.2:80")]);
        let takes = |now, backend| group.takes(now, BackendId(backend));
        assert_eq!([0, 1, 2].map(|backend| takes(Instant::START, backend)), [true, true, false]);
        assert!(group.refused(Instant::START, BackendId(1)).is_some());
        assert!(!takes(Instant::START, 1));
        let later = Instant::START + Duration::from_secs(11);
        assert!(takes(later, 1), "one of all that ask then is the trial");
        assert!(!takes(later, 1));
        assert_eq!(group.accepted(BackendId(1)), Some(Health::Up));
        assert!(takes(later, 1));
    }

    #[test]
    fn one_that_drains_has_a_place_and_gets_nothing() {
        let mut chance = SmallRng::seed_from_u64(7);
        let specs = [BackendSpec { drain: true, ..spec("10.0.0.1:80") }, spec("10.0.0.2:80")];
        let group = group(SchedulerKind::Rr, &specs);
        for _ in 0..4 {
            assert_eq!(group.pick(Instant::START, &tuple(1), &[], &mut chance), Some(BackendId(1)));
        }
        assert!(group.backends()[0].draining);
    }

    #[test]
    fn what_is_wrong_with_a_group_is_said() {
        let new = |specs: &[BackendSpec]| {
            let passive = PassiveHealth::default();
            BackendGroup::new("web", ServiceId(0), SchedulerKind::Rr, specs, passive)
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(new(&[]).contains("no backend"));
        assert!(new(&[spec("10.0.0.1:0")]).contains("port 0"));
        assert!(new(&[spec("10.0.0.1:80"), spec("10.0.0.1:80")]).contains("twice"));
    }
}
