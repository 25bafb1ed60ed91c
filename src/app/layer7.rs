//! Layer 7 as configured: what all workers share of it, the proxy of each worker, and what they count.
//!
//! ```text
//!   Plan ── files ──▶ Layer7: routes, TLS, pool ──┬─▶ on each worker's thread: Proxy = stack + sessions + Upstreams
//!                          │                      └─▶ …
//!                          └── counts ◀── each worker's counters
//! ```

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rustls::{KeyLog, KeyLogFile};

use crate::app::access_log::AccessLogs;
use crate::app::certificates;
use crate::app::config::Config;
use crate::app::output;
use crate::app::record::Both;
use crate::app::report::{
    CacheCounts, Connections, GroupCounts, Layer7 as Report, SiteCounts, UpstreamCounts, WordCount,
};
use crate::app::upstream::KernelConnect;
use crate::datapath::{Arrival, Datapath, Decision, Instant, Listening, Outbox, Verdict, WorkerId};
use crate::io::{self, Stop};
use crate::l7::access::AccessLog;
use crate::l7::cache::{Cache, Caching, Clock, Detail, Handling};
use crate::l7::exchange::Failure;
use crate::l7::front::{Cut, FrontCounters, Refusal, Routes, Shaped, Site, Spoken};
use crate::l7::proxy::Proxy;
use crate::l7::rooms::SessionLimit;
use crate::l7::spec::{Plan, SiteSpec};
use crate::l7::stack::{DeviceTraits, Listener, Share, Stack, StackCounts, StackSettings};
use crate::l7::tls::{Cause, HandshakeCounts, Terminator};
use crate::l7::upstream::{self, BackendReport, DropReason, GroupReport, Upstreams};
use crate::packet::Frame;

/// What all workers share.
#[derive(Clone)]
pub struct Layer7(Arc<Shared>);

struct Shared {
    plan: Plan,
    settings: StackSettings,
    seed: [u8; 32],
    workers: u8,
    routes: Vec<Arc<Routes>>,
    terminators: Vec<Option<Terminator>>,
    upstreams: Arc<upstream::Shared>,
    /// By site.
    caches: Vec<Option<Arc<Cache>>>,
    limit: SessionLimit,
    logs: AccessLogs,
    /// By worker.
    counts: Vec<WorkerCounts>,
}

/// What one worker counts.
struct WorkerCounts {
    /// By site.
    sites: Vec<Arc<FrontCounters>>,
    stack: Mutex<StackCounts>,
}

impl Layer7 {
    /// Makes it: reads certificates and builds tables. `key_log` is told the secrets of TLS sessions, beside whom the
    /// environment names.
    ///
    /// # Errors
    /// If files cannot be read or used, or the system gives no randomness.
    pub fn build(
        config: &Config,
        device: DeviceTraits,
        workers: usize,
        key_log: Option<Arc<dyn KeyLog>>,
    ) -> anyhow::Result<Self> {
        let plan = &config.plan;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("cannot get a random seed")?;
        let key_log = match (key_log, key_log_file()) {
            (Some(asked), Some(file)) => Some(Arc::new(Both(asked, file)) as Arc<dyn KeyLog>),
            (asked, file) => asked.or(file),
        };
        let terminators = plan
            .sites
            .iter()
            .map(|site| certificates::terminator(site, key_log.clone()))
            .collect::<anyhow::Result<_>>()?;
        let security = plan
            .groups
            .iter()
            .map(|group| {
                let client = |tls| certificates::backend_client(tls, group.protocol, key_log.clone());
                group.tls.as_ref().map(client).transpose().with_context(|| format!("backends {}", group.name))
            })
            .collect::<anyhow::Result<_>>()?;
        // Not the user's seed: a client must not know which names share a place.
        let unknown = seed.last_chunk().copied().map_or(0, u64::from_be_bytes);
        let clock = Clock::starting_at(Duration::from_nanos(io::Clock::start().started_at()));
        let cache = |site: &SiteSpec| Some(Cache::new(site.cache.clone()?, clock, unknown));
        let draw = config.seed.unwrap_or(seed.first_chunk().copied().map_or(0, u64::from_be_bytes));
        let routes = |site: &SiteSpec| Arc::new(Routes::with(&site.routes, &site.limits, &plan.groups, draw));
        let counters = || Arc::new(FrontCounters::default());
        let counts = (0..workers).map(|_| WorkerCounts {
            sites: plan.sites.iter().map(|_| counters()).collect(),
            stack: Mutex::default(),
        });
        Ok(Self(Arc::new(Shared {
            routes: plan.sites.iter().map(routes).collect(),
            terminators,
            caches: plan.sites.iter().map(cache).collect(),
            upstreams: upstream::Shared::new(plan, security, config.health, draw)?,
            settings: StackSettings::on(device),
            seed,
            workers: u8::try_from(workers).unwrap_or(u8::MAX),
            limit: SessionLimit::new(plan.clients),
            logs: AccessLogs::open(plan)?,
            counts: counts.collect(),
            plan: plan.clone(),
        })))
    }

    /// Has certificates swapped when their files change, until the run ends.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn watch_certificates(&self, stop: &Stop) -> std::io::Result<()> {
        let sites = self.0.plan.sites.iter().zip(&self.0.terminators);
        certificates::watch(sites.filter_map(|(site, terminator)| Some((site, terminator.as_ref()?))), stop)
    }

    /// The access logs, to be started and finished.
    pub fn logs(&self) -> &AccessLogs {
        &self.0.logs
    }

    /// The proxy of one worker, on whose thread this must be called.
    pub fn proxy(&self, worker: WorkerId) -> WorkerProxy {
        let shared = &self.0;
        let share = Share { worker, workers: shared.workers };
        let stack = Stack::new(shared.settings, share, shared.seed);
        let upstreams = Upstreams::new(Arc::clone(&shared.upstreams), worker, Rc::new(KernelConnect));
        let upstreams = Rc::new(upstreams);
        let counts = shared.counts.get(worker.index());
        let mut proxy = Proxy::new(stack, shared.limit.clone());
        let parts = shared.plan.sites.iter().zip(&shared.routes).zip(&shared.terminators);
        for (place, ((spec, routes), terminator)) in parts.enumerate() {
            let counters = counts.and_then(|counts| counts.sites.get(place));
            let cache = shared.caches.get(place).cloned().flatten();
            let site = Rc::new(Site {
                routes: Arc::clone(routes),
                mode: spec.upstreams,
                patience: spec.patience,
                forward: Rc::new(Caching::new(Rc::clone(&upstreams), cache)),
                requests: spec.requests,
                log: shared.logs.of(place).map(|log| Rc::new(log) as Rc<dyn AccessLog>),
                reasons: spec.reasons,
                counters: counters.map(Arc::clone).unwrap_or_default(),
            });
            let secure = terminator.clone().map(Rc::new);
            proxy.serve(&spec.listen, Listener::default(), &site, secure.as_ref());
        }
        WorkerProxy { proxy, shared: Arc::clone(shared), worker, told: StackCounts::default() }
    }

    /// What has happened so far.
    pub fn report(&self) -> Report {
        let shared = &self.0;
        let mut connections = Connections::default();
        for worker in &shared.counts {
            let counts = *worker.stack.lock().unwrap_or_else(PoisonError::into_inner);
            connections.opened += counts.opened;
            connections.ended += counts.ended;
            connections.reset += counts.reset;
            connections.timed_out += counts.timed_out;
            connections.aborted += counts.aborted;
        }
        let sites = shared.plan.sites.iter().enumerate().map(|(place, site)| {
            let counters: Vec<_> =
                shared.counts.iter().filter_map(|worker| worker.sites.get(place)).collect();
            let handshakes = shared.terminators.get(place).and_then(Option::as_ref).map(Terminator::counts);
            let cache = shared.caches.get(place).and_then(Option::as_ref).map(|cache| cache_counts(cache));
            SiteCounts { cache, ..site_counts(&site.name, &counters, handshakes.as_ref()) }
        });
        let groups = shared.upstreams.report();
        Report {
            connections,
            sites: sites.collect(),
            upstreams: groups.iter().flat_map(backend_counts).collect(),
            groups: groups.iter().map(group_counts).collect(),
            access_logs: shared.logs.counts(),
        }
    }
}

/// The environment's word for where secrets go, which browsers and curl know as well.
const KEY_LOG: &str = "SSLKEYLOGFILE";

/// Who is told the secrets of TLS sessions, where the environment wants that.
fn key_log_file() -> Option<Arc<dyn KeyLog>> {
    let file = std::env::var_os(KEY_LOG)?;
    output::say(format_args!(
        "warning: {KEY_LOG} IS SET: the secrets of all TLS sessions, to clients and to backends, are written to {}. \
         Whoever has that file can read them",
        file.to_string_lossy()
    ));
    Some(Arc::new(KeyLogFile::new()))
}

/// Layer 7 of one worker, as its driver knows it.
pub struct WorkerProxy {
    proxy: Proxy<Caching<Upstreams>>,
    shared: Arc<Shared>,
    worker: WorkerId,
    /// What others know of the stack's counts.
    told: StackCounts,
}

impl WorkerProxy {
    /// Lets others know what the stack has counted, where that is news.
    fn tell(&mut self) {
        let counts = self.proxy.stack().counts();
        if counts != self.told
            && let Some(worker) = self.shared.counts.get(self.worker.index())
        {
            *worker.stack.lock().unwrap_or_else(PoisonError::into_inner) = counts;
            self.told = counts;
        }
    }
}

impl Drop for WorkerProxy {
    /// The run is over: what is idle is dropped because of that, and not because its connection's task goes.
    fn drop(&mut self) {
        self.shared.upstreams.shut_down();
    }
}

impl Datapath for WorkerProxy {
    fn handle_frame(&mut self, now: Instant, frame: &mut Frame, arrival: Arrival, _: &mut Outbox) -> Verdict {
        let verdict = self.proxy.handle_frame(now, frame, arrival);
        self.proxy.accept();
        verdict
    }

    fn handle_timeout(&mut self, now: Instant, _: &mut Outbox) {
        self.proxy.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.proxy.poll_timeout()
    }

    fn poll_egress(&mut self, now: Instant, mut sink: &mut dyn FnMut(&mut Frame)) {
        self.proxy.poll_egress(now, &mut sink);
        self.tell();
    }

    fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        self.proxy.poll_dirty(context)
    }

    fn listen(&mut self, listening: Listening) {
        self.proxy.listen(listening);
    }

    fn decision(&self) -> Decision {
        self.proxy.stack().decision()
    }
}

fn site_counts(
    name: &str,
    workers: &[&Arc<FrontCounters>],
    handshakes: Option<&HandshakeCounts>,
) -> SiteCounts {
    let sum =
        |read: &dyn Fn(&FrontCounters) -> u64| workers.iter().map(|counters| read(counters)).sum::<u64>();
    let versions = Spoken::ALL.map(|spoken| (spoken.word(), sum(&|counters| counters.requests(spoken))));
    let classes = (1..).zip(["1xx", "2xx", "3xx", "4xx", "5xx"]);
    let answers = classes.map(|(class, word)| (word, sum(&|counters| counters.answers(class))));
    let refusals =
        Refusal::ALL.iter().map(|&refusal| (refusal.word(), sum(&|counters| counters.refused(refusal))));
    let failures =
        Failure::ALL.iter().map(|&failure| (failure.word(), sum(&|counters| counters.failed(failure))));
    let cuts = Cut::ALL.iter().map(|&cut| (cut.word(), sum(&|counters| counters.cut(cut))));
    let tls = handshakes.into_iter().flat_map(|counts| {
        let failed = Cause::ALL.iter().map(|&cause| (cause.word(), counts.failed_by(cause)));
        [("tls_full", counts.full), ("tls_resumed", counts.resumed)].into_iter().chain(failed)
    });
    let upgrades = ("upgrades", sum(&|counters| counters.upgrades.value()));
    let shaped = Shaped::ALL.iter().map(|&shaped| (shaped.word(), sum(&|counters| counters.shaped(shaped))));
    let ends = tls
        .chain(versions)
        .chain(answers)
        .chain([upgrades])
        .chain(shaped)
        .chain(refusals)
        .chain(failures)
        .chain(cuts);
    SiteCounts {
        name: name.to_owned(),
        sessions: sum(&|counters| counters.sessions.value()),
        requests: versions.iter().map(|(_, count)| count).sum(),
        ends: occurred(ends),
        cache: None,
    }
}

fn cache_counts(cache: &Cache) -> CacheCounts {
    let (held, most) = cache.bytes();
    let counters = cache.counters();
    let handled = Handling::ALL.iter().map(|&handling| (handling.word(), counters.handled(handling)));
    let detailed = Detail::ALL.iter().map(|&detail| (detail.word(), counters.detailed(detail)));
    let ends = handled.chain(counters.others()).chain(detailed);
    CacheCounts { held: held as u64, most: most as u64, ends: occurred(ends) }
}

fn group_counts(group: &GroupReport) -> GroupCounts {
    let failures = Failure::ALL.iter().zip(group.failures).map(|(failure, count)| (failure.word(), count));
    let counts = [
        ("waited", group.waited),
        ("retries", group.retries),
        ("retries_denied", group.retries_denied),
        ("hedges", group.hedges),
        ("hedges_won", group.hedges_won),
    ];
    GroupCounts { group: group.name.clone(), ends: occurred(counts.into_iter().chain(failures)) }
}

fn backend_counts(group: &GroupReport) -> Vec<UpstreamCounts> {
    let backend = |BackendReport { endpoint, counts, .. }: &BackendReport| UpstreamCounts {
        group: group.name.clone(),
        backend: endpoint.to_string(),
        opened: counts.opened(),
        reused: counts.reused,
        open: counts.live as u64,
        idle: counts.idle as u64,
        ends: occurred(
            upstream::OpenReason::ALL
                .iter()
                .map(|&reason| (reason.word(), counts.opened_for(reason)))
                .chain(DropReason::ALL.iter().map(|&reason| (reason.word(), counts.dropped_for(reason))))
                .chain([("unopened", counts.unopened), ("no_answer", counts.failures)]),
        ),
    };
    group.backends.iter().map(backend).collect()
}

fn occurred(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<WordCount> {
    counts.filter(|(_, count)| *count > 0).map(|(word, count)| WordCount { word, count }).collect()
}
