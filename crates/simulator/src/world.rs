//! What outlives the processes of a history: the store, the time, and whoever decides what goes wrong; and what was seen.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::RunId;
use engine::ScopeKey;
use fastrand::Rng;
use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::memory;
use runtime::ports::Catalog as _;
use runtime::ports::RunSummary;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::doubles::CutOff;
use crate::doubles::Doubles;
use crate::doubles::Said;
use crate::invariants::Checker;
use crate::invariants::Violation;
use crate::observation::Observation;
use crate::observation::ProcessId;
use crate::observation::What;
use crate::panics;
use crate::plan::Blow;
use crate::plan::Fault;
use crate::plan::Faults;
use crate::plan::Home;
use crate::plan::Mischief;
use crate::plan::Plan;
use crate::plan::Rates;
use crate::plan::spread;
use crate::process::Life;
use crate::replica::Replica;
use crate::trace::Line;

/// When every history begins.
const EPOCH: i64 = 1_767_225_600;
/// Observations in a history that goes round in circles.
const OBSERVATIONS: u64 = 50_000;
/// Doorbells for each thing that happens, beside those that every history has: where doorbells ring for doorbells, there are
/// ever more.
const BELLS: u64 = 20;
/// Doorbells of a history in which nothing happens.
const BELLS_AT_LEAST: u64 = 2_000;

/// Looks at all that happens, beside the [`Checker`]; answers with what must not be.
pub type Watch = Box<dyn FnMut(&Observation) -> Result<(), Violation> + Send>;

/// All that outlives processes.
pub struct World {
    /// The truth.
    pub store: memory::Store,
    /// What lists may still show.
    pub(crate) replica: Option<Replica>,
    seed: u64,
    jitter: bool,
    /// Whether several processes share the store, so that one of them can be cut off from it.
    shared: bool,
    epoch: Timestamp,
    begun: Instant,
    dice: Dice,
    /// Nothing fails any more.
    calm: AtomicBool,
    calls: AtomicU64,
    /// Until then the store answers nobody.
    outage: Mutex<Instant>,
    state: Mutex<State>,
    broken: Notify,
}

enum Dice {
    Random(Rates),
    Loaded(HashMap<u64, Mischief>),
}

struct State {
    counts: HashMap<u64, u32>,
    checker: Option<Checker>,
    watch: Watch,
    violation: Option<Violation>,
    open: BTreeMap<u64, ProcessId>,
    doubles: Doubles,
    called: u64,
    observations: u64,
    bells: u64,
    last_record: Instant,
    recording: bool,
    made: Vec<Fault>,
    kinds: BTreeMap<&'static str, u64>,
    lines: Vec<Line>,
    processes: u32,
    /// The runs that child runs belong to.
    parents: BTreeMap<RunId, RunId>,
}

/// What a history was made of, once it is over.
pub(crate) struct Ledger {
    pub(crate) violation: Option<Violation>,
    pub(crate) observations: u64,
    pub(crate) calls: u64,
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    pub(crate) made: Vec<Fault>,
    pub(crate) lines: Vec<Line>,
}

/// What a call is about; by it and its name it is known again in another history.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    Nothing,
    Run(&'a RunId),
    Scope(&'a ScopeKey),
    Text(&'a str),
}

/// What can become of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Read,
    List,
    Write,
    Ring,
    Bell,
    Receive,
    Perform,
    Notify,
    /// Within the process.
    Local,
}

/// What becomes of one call.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turn {
    pub(crate) before: Pause,
    pub(crate) after: Pause,
    pub(crate) fault: Option<Mischief>,
}

/// How long something takes.
#[derive(Clone, Copy, Default)]
pub(crate) enum Pause {
    #[default]
    None,
    Yield,
    Sleep(u64),
}

impl Pause {
    pub(crate) async fn take(self) {
        match self {
            Self::None => {}
            Self::Yield => tokio::task::yield_now().await,
            Self::Sleep(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..) {
            0..=139 => Self::None,
            140..=199 => Self::Yield,
            200..=250 => Self::Sleep(rng.u64(1..=4)),
            _ => Self::Sleep(rng.u64(5..=60)),
        }
    }
}

impl World {
    /// The world of a plan. With `recording` it can tell afterwards what happened; needs a tokio runtime.
    pub fn new(plan: &Plan, checker: Checker, watch: Watch, recording: bool) -> Self {
        let (dice, stale) = match &plan.faults {
            Faults::Random(rates) => (Dice::Random(*rates), rates.stale > 0),
            Faults::Exactly(faults) => {
                let stale = faults.iter().any(|fault| matches!(fault.what, Mischief::Stale(_)));
                let loaded = faults.iter().map(|fault| (mix(hash(&fault.call), fault.nth), fault.what));
                (Dice::Loaded(loaded.collect()), stale)
            }
        };
        let now = Instant::now();
        Self {
            store: memory::Store::new(),
            replica: stale.then(Replica::default),
            seed: plan.seed,
            jitter: plan.jitter,
            shared: plan.home != Home::Embedded,
            epoch: Timestamp::from_second(EPOCH).unwrap_or_default(),
            begun: now,
            dice,
            calm: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            outage: Mutex::new(now),
            state: Mutex::new(State {
                counts: HashMap::new(),
                checker: Some(checker),
                watch,
                violation: None,
                open: BTreeMap::new(),
                doubles: Doubles::default(),
                called: 0,
                observations: 0,
                bells: 0,
                last_record: now,
                recording,
                made: Vec::new(),
                kinds: BTreeMap::new(),
                lines: Vec::new(),
                processes: 0,
                parents: BTreeMap::new(),
            }),
            broken: Notify::new(),
        }
    }

    /// The world's own time.
    pub fn now(&self) -> Timestamp {
        self.epoch.checked_add(self.begun.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// Milliseconds since the history began.
    pub(crate) fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The number of the next process.
    pub(crate) fn next_process(&self) -> ProcessId {
        let mut state = self.state.lock();
        state.processes += 1;
        ProcessId(state.processes)
    }

    /// Random numbers of this plan that depend on nothing but their name.
    pub(crate) fn rng(&self, name: &str, number: u32) -> Rng {
        Rng::with_seed(mix(self.seed ^ hash(name), number))
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// From here on nothing fails any more.
    pub(crate) fn calm_down(&self) {
        if !self.calm.swap(true, Ordering::Relaxed) {
            self.observe(None, What::FaultsOver);
        }
    }

    /// The store answers nobody for so long.
    pub(crate) fn outage(&self, millis: u64) {
        *self.outage.lock() = Instant::now() + Duration::from_millis(millis);
    }

    /// What is to become of this call.
    pub(crate) fn turn(
        &self,
        life: Option<&Life>,
        call: &'static str,
        about: About<'_>,
        nature: Nature,
    ) -> Turn {
        let name = about.hash(call);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let nth = {
            let mut state = self.state.lock();
            let happened = state.observations;
            state.bells += u64::from(nature == Nature::Bell);
            if state.bells > BELLS_AT_LEAST + BELLS * happened && state.violation.is_none() {
                let what = format!("{} doorbells, and only {happened} things happened", state.bells);
                state.violation = Some(Violation { invariant: "storm", what });
                self.broken.notify_one();
            }
            let count = state.counts.entry(name).or_default();
            *count += 1;
            *count - 1
        };
        let key = mix(name, nth);
        let mut rng = Rng::with_seed(mix(self.seed ^ key, 0));
        let mut turn = Turn::default();
        if self.jitter && !matches!(nature, Nature::Bell | Nature::Notify) {
            turn.before = Pause::draw(&mut rng);
            turn.after = Pause::draw(&mut rng);
        }
        if self.is_calm() {
            return turn;
        }
        let stores = matches!(nature, Nature::Read | Nature::List | Nature::Write);
        turn.fault = match &self.dice {
            Dice::Random(rates) => draw(rates, nature, &mut rng),
            Dice::Loaded(faults) => faults.get(&key).copied(),
        };
        if let Some(what) = turn.fault {
            self.made(life, Fault { call: about.name(call), nth, what });
        } else if stores && (*self.outage.lock() > Instant::now() || self.is_cut_off(life, about)) {
            turn.fault = Some(Mischief::Unavailable);
        }
        turn
    }

    fn made(&self, life: Option<&Life>, fault: Fault) {
        let at = self.now();
        let mut state = self.state.lock();
        *state.kinds.entry(fault.what.kind()).or_default() += 1;
        if state.recording {
            state.lines.push(Line::Made { at, by: life.map(|life| life.id), fault: fault.clone() });
            state.made.push(fault);
        }
    }

    /// A blow of the plan falls.
    pub(crate) fn struck(&self, blow: &Blow) {
        let at = self.now();
        let mut state = self.state.lock();
        *state.kinds.entry(blow.what.kind()).or_default() += 1;
        if state.recording {
            state.lines.push(Line::Struck { at, blow: blow.clone() });
        }
    }

    /// Something happened, now.
    pub(crate) fn observe(&self, life: Option<&Life>, what: What) {
        let at = self.now();
        let clock = life.map_or(at, |life| life.clock(at));
        let observation = Observation { at, clock, what };
        let mut state = self.state.lock();
        let state = &mut *state;
        // A worker that is alive says so again and again.
        let tells_nothing = matches!(observation.what, What::Renewed { .. } | What::DoorbellLost);
        state.observations += u64::from(!tells_nothing);
        if matches!(observation.what, What::Appended { .. }) {
            state.last_record = Instant::now();
        }
        let mut seen = match &mut state.checker {
            Some(checker) => checker.see(&observation),
            None => Ok(()),
        };
        seen = seen.and_then(|()| (state.watch)(&observation));
        if state.observations > OBSERVATIONS {
            seen = seen.and(Err(Violation {
                invariant: "livelock",
                what: format!("{OBSERVATIONS} things happened, and no rest"),
            }));
        }
        if let Some(panic) = panics::taken() {
            seen = seen.and(Err(Violation { invariant: "panic", what: panic }));
        }
        if state.recording {
            state.lines.push(Line::Seen(observation));
        }
        if let Err(violation) = seen
            && state.violation.is_none()
        {
            state.violation = Some(violation);
            self.broken.notify_one();
        }
    }

    /// Something must not be.
    pub(crate) fn violated(&self, violation: Violation) {
        let mut state = self.state.lock();
        if state.violation.is_none() {
            state.violation = Some(violation);
            self.broken.notify_one();
        }
    }

    /// Looks whether the sweeper would find everything now.
    pub(crate) async fn check_findable(&self) {
        let Ok(due) = self.store.due(Timestamp::MAX, None, usize::MAX).await else { return };
        let found = match &self.state.lock().checker {
            Some(checker) => checker.findable(self.now(), &due),
            None => Ok(()),
        };
        if let Err(violation) = found {
            self.violated(violation);
        }
    }

    /// Whether nothing was broken so far.
    pub(crate) fn is_whole(&self) -> bool {
        self.state.lock().violation.is_none()
    }

    /// The history is over, but for what holds at its end.
    pub(crate) fn checker(&self) -> Option<Checker> {
        let mut state = self.state.lock();
        if state.violation.is_some() { None } else { state.checker.take() }
    }

    /// Waits until something must not be.
    pub(crate) async fn broken(&self) {
        if self.state.lock().violation.is_some() {
            return;
        }
        self.broken.notified().await;
    }

    /// An agent is called; answers with the call's number.
    pub(crate) fn called(&self, life: &Life, called: impl FnOnce(u64) -> What) -> u64 {
        let call = {
            let mut state = self.state.lock();
            let call = state.called;
            state.called += 1;
            state.open.insert(call, life.id);
            call
        };
        self.observe(Some(life), called(call));
        call
    }

    /// A call is over; whether it was open still.
    pub(crate) fn closed(&self, call: u64) -> bool {
        let mut state = self.state.lock();
        state.doubles.over(call);
        state.open.remove(&call).is_some()
    }

    /// Whether an agent is being called.
    pub(crate) fn calls_agents(&self) -> bool {
        !self.state.lock().open.is_empty()
    }

    /// What goes on from here on is no part of the history: its processes are let go of as they are.
    pub(crate) fn stand_still(&self) {
        self.state.lock().open.clear();
    }

    /// This agent will answer twice.
    pub(crate) fn twice(&self, key: &Arc<str>, said: Said, cut_off: CutOff) {
        self.state.lock().doubles.put(key, said, cut_off);
    }

    /// What an agent that answers twice says to whoever asks again.
    pub(crate) fn said(&self, key: &str) -> Option<Said> {
        self.state.lock().doubles.said(key)
    }

    /// An answer to this key was heard.
    pub(crate) fn heard(&self, key: &str) {
        let state = &mut *self.state.lock();
        if state.doubles.heard(key) {
            *state.kinds.entry("heard twice").or_default() += 1;
        }
    }

    fn is_cut_off(&self, life: Option<&Life>, about: About<'_>) -> bool {
        match (life, about) {
            (Some(life), About::Scope(scope)) if self.shared => {
                self.state.lock().doubles.is_cut_off(life.id, scope)
            }
            _ => false,
        }
    }

    /// A process is no more: nobody waits for the agents it called.
    pub(crate) fn died(&self, life: &Life) {
        self.observe(Some(life), What::ProcessDied(life.id));
        let calls = {
            let mut state = self.state.lock();
            let calls: Vec<u64> =
                state.open.iter().filter(|(_, by)| **by == life.id).map(|(call, _)| *call).collect();
            state.open.retain(|_, by| *by != life.id);
            for call in &calls {
                state.doubles.over(*call);
            }
            calls
        };
        for call in calls {
            self.observe(Some(life), What::Dropped { call });
        }
    }

    /// A child run was started.
    pub(crate) fn child(&self, run: RunId, parent: RunId) {
        self.state.lock().parents.insert(run, parent);
    }

    /// The run that a client started, for this one of its family.
    pub(crate) fn ancestor(&self, run: &RunId) -> RunId {
        let state = self.state.lock();
        let mut run = run;
        while let Some(parent) = state.parents.get(run) {
            run = parent;
        }
        run.clone()
    }

    /// How long ago the last record took effect.
    pub(crate) fn still_for(&self) -> Duration {
        self.state.lock().last_record.elapsed()
    }

    /// A run's summary may have changed.
    pub(crate) fn summary(&self, life: &Life, summary: RunSummary) {
        self.observe(Some(life), What::Summary(Box::new(summary)));
    }

    /// What the history was made of.
    pub(crate) fn close(&self) -> Ledger {
        let mut state = self.state.lock();
        if let Some(panic) = panics::taken()
            && state.violation.is_none()
        {
            state.violation = Some(Violation { invariant: "panic", what: panic });
        }
        Ledger {
            violation: state.violation.take(),
            observations: state.observations,
            calls: self.calls.load(Ordering::Relaxed),
            kinds: std::mem::take(&mut state.kinds),
            made: std::mem::take(&mut state.made),
            lines: std::mem::take(&mut state.lines),
        }
    }
}

fn draw(rates: &Rates, nature: Nature, rng: &mut Rng) -> Option<Mischief> {
    let writes = matches!(nature, Nature::Write | Nature::Ring | Nature::Notify);
    let stores = matches!(nature, Nature::Read | Nature::List | Nature::Write | Nature::Ring);
    let when = |rate: u32, possible: bool| if possible { rate } else { 0 };
    let bell = nature == Nature::Bell;
    let kinds = [
        when(rates.die, !bell),
        when(rates.unavailable, stores || nature == Nature::Notify),
        when(rates.unknown, writes),
        when(rates.stall, !bell && nature != Nature::Receive),
        when(rates.stale, nature == Nature::List),
        when(rates.lose, bell),
        when(rates.double, bell),
        when(rates.delay, bell),
        when(rates.late, nature == Nature::Perform),
        when(rates.twice, nature == Nature::Perform),
    ];
    let mut left = rng.u32(0..100_000);
    let chosen = kinds.iter().position(|rate| {
        let hit = left < *rate;
        left = left.saturating_sub(*rate);
        hit
    })?;
    let half = rng.bool();
    Some(match chosen {
        0 if half => Mischief::DieBefore,
        0 => Mischief::DieAfter,
        1 => Mischief::Unavailable,
        2 if half => Mischief::Unheard,
        2 => Mischief::Unknown,
        3 if half => Mischief::StallBefore(spread(rng, 100, 100_000)),
        3 => Mischief::StallAfter(spread(rng, 100, 100_000)),
        4 => Mischief::Stale(spread(rng, 10, 8000)),
        5 => Mischief::Lose,
        6 => Mischief::Double(spread(rng, 1, 200_000)),
        7 => Mischief::Delay(spread(rng, 1, 400_000)),
        8 => Mischief::Late(spread(rng, 1000, 600_000)),
        _ if half => Mischief::Twice(spread(rng, 120_000, 1_000_000)),
        _ => Mischief::Otherwise(spread(rng, 120_000, 1_000_000)),
    })
}

impl About<'_> {
    fn hash(self, call: &str) -> u64 {
        let begun = extend(OFFSET, call);
        match self {
            Self::Nothing => begun,
            Self::Run(run) => extend(extend(begun, " "), run.as_str()),
            Self::Scope(scope) => extend(extend(extend(begun, " "), scope.run.as_str()), scope.path.as_str()),
            Self::Text(text) => extend(extend(begun, " "), text),
        }
    }

    fn name(self, call: &str) -> Arc<str> {
        match self {
            Self::Nothing => call.into(),
            Self::Run(run) => format!("{call} {run}").into(),
            Self::Scope(scope) => format!("{call} {scope}").into(),
            Self::Text(text) => format!("{call} {text}").into(),
        }
    }
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: the same on every machine, and for text in pieces.
fn extend(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn hash(text: &str) -> u64 {
    extend(OFFSET, text)
}

/// `SplitMix64`'s end: spreads neighbours over all bits.
pub(crate) fn mix(hash: u64, number: u32) -> u64 {
    let mut bits = hash.wrapping_add(u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
