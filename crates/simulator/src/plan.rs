//! Everything that a history is: what runs, where, and what goes wrong. The same plan is the same history, on every machine.

use std::sync::Arc;

use fastrand::Rng;
use serde::Deserialize;
use serde::Serialize;

use crate::flow::Flow;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// A history before it has happened. All times are milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What is not said here is drawn from it: ids, delays, and random faults.
    pub seed: u64,
    /// Where it runs.
    pub home: Home,
    /// How much its processes may do at once, and keep.
    pub limits: Limits,
    /// What runs, and what people do to it.
    pub flow: Flow,
    /// One run for each of these times, counted from the history's beginning.
    pub starts: Vec<u64>,
    /// Whether calls take small random times, so that tasks take turns in ever new ways.
    pub jitter: bool,
    /// What goes wrong with calls.
    pub faults: Faults,
    /// What happens to processes beside that.
    pub blows: Vec<Blow>,
    /// When faults are over.
    pub calm_after: u64,
    /// From then on every process is new, all doorbells are lost, and only the sweeper finds what is left.
    pub abandoned: bool,
    /// At the end people answer whatever is still asked.
    pub answered: bool,
}

/// How much a process may do at once, and keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Scopes kept in memory.
    pub scopes: usize,
    /// For how many milliseconds a worker goes on inline.
    pub inline: u64,
    /// Workers of each queue, where processes stay.
    pub workers: usize,
    /// Bytes of records after which a snapshot is due.
    #[serde(default = "usual_snapshots")]
    pub snapshots: usize,
}

fn usual_snapshots() -> usize {
    128 << 10
}

impl Default for Limits {
    fn default() -> Self {
        Self { scopes: 4096, inline: 2 * MINUTE, workers: 1024, snapshots: usual_snapshots() }
    }
}

/// The three homes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Home {
    /// One process alone with its store; doorbells in memory die with it.
    Embedded,
    /// Processes that stay, over one durable queue.
    Cluster {
        /// How many.
        processes: u32,
        /// How long a delivered doorbell is kept from others.
        visibility: u64,
        /// Whether that is extended while its worker lives.
        heartbeats: bool,
    },
    /// An invocation for each delivery, in sandboxes that stay warm for a while.
    Serverless {
        /// Sandboxes at once.
        sandboxes: u32,
        /// How long an invocation may take.
        limit: u64,
    },
}

impl Home {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Cluster { .. } => "cluster",
            Self::Serverless { .. } => "serverless",
        }
    }

    /// How many processes it has at once.
    pub fn processes(self) -> u32 {
        match self {
            Self::Embedded => 1,
            Self::Cluster { processes, .. } => processes,
            Self::Serverless { sandboxes, .. } => sandboxes,
        }
    }
}

/// What goes wrong with calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Faults {
    /// Drawn for each call.
    Random(Rates),
    /// Exactly these.
    Exactly(Vec<Fault>),
}

/// How often each kind of fault is made: in so many of 100,000 calls that it can happen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // Each is the kind of fault it is named after.
pub struct Rates {
    pub die: u32,
    pub unavailable: u32,
    pub unknown: u32,
    pub stall: u32,
    pub stale: u32,
    pub lose: u32,
    pub double: u32,
    pub delay: u32,
    pub late: u32,
    pub twice: u32,
}

/// One fault: what becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The call, and what it is about.
    pub call: Arc<str>,
    /// The how manieth such call, from 0.
    pub nth: u32,
    /// What becomes of it.
    pub what: Mischief,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mischief {
    /// The process dies before it takes effect.
    DieBefore,
    /// The process dies after it took effect.
    DieAfter,
    /// It fails and did nothing.
    Unavailable,
    /// It takes effect, and its answer is lost.
    Unknown,
    /// It does nothing, and whoever asked cannot know that.
    Unheard,
    /// It takes this long before it takes effect.
    StallBefore(u64),
    /// It takes this long after it took effect.
    StallAfter(u64),
    /// It reads what was true so long ago.
    Stale(u64),
    /// The doorbell is lost.
    Lose,
    /// The doorbell rings again, so much later.
    Double(u64),
    /// The doorbell rings so much later.
    Delay(u64),
    /// The agent answers so much later.
    Late(u64),
    /// The agent answers so much later, while its caller cannot reach the store; and whoever asks under the same key
    /// is given the same answer, then or at once.
    Twice(u64),
    /// The same, but whoever asks again is told that it was done already.
    Otherwise(u64),
}

impl Mischief {
    /// Its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::DieBefore => "die before",
            Self::DieAfter => "die after",
            Self::Unavailable => "unavailable",
            Self::Unknown => "answer lost",
            Self::Unheard => "request lost",
            Self::StallBefore(_) => "stall before",
            Self::StallAfter(_) => "stall after",
            Self::Stale(_) => "stale read",
            Self::Lose => "doorbell lost",
            Self::Double(_) => "doorbell doubled",
            Self::Delay(_) => "doorbell delayed",
            Self::Late(_) => "agent late",
            Self::Twice(_) => "agent twice",
            Self::Otherwise(_) => "agent twice, otherwise",
        }
    }
}

/// Something that happens to a process at a time, whatever it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blow {
    /// When, counted from the history's beginning.
    pub after: u64,
    /// Which of the home's processes.
    pub process: u32,
    /// What.
    pub what: Hit,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hit {
    /// It is killed.
    Kill,
    /// It is asked to stop, and started again.
    Restart,
    /// Nothing in it moves for so long.
    Freeze(u64),
    /// Its clock jumps by so much.
    Jump(i64),
    /// The store answers nobody for so long.
    Outage(u64),
    /// All doorbells that have not been answered are lost.
    LoseDoorbells,
}

impl Hit {
    /// Its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Freeze(_) => "freeze",
            Self::Jump(_) => "clock jump",
            Self::Outage(_) => "store outage",
            Self::LoseDoorbells => "all doorbells lost",
        }
    }
}

impl Plan {
    /// The plan of this seed. Each seed has a few kinds of faults of its own, at rates of its own, so that histories differ in
    /// kind: with all of them at once most would look alike.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let size = rng.u32(2..=14);
        let flow = Flow::random(&mut rng, size);
        let home = match rng.u8(0..3) {
            0 => Home::Embedded,
            1 => Home::Cluster {
                processes: rng.u32(1..=3),
                visibility: pick(&mut rng, &[10 * SECOND, 30 * SECOND, 60 * SECOND, 5 * MINUTE]),
                heartbeats: rng.bool(),
            },
            _ => Home::Serverless {
                sandboxes: rng.u32(1..=6),
                limit: pick(&mut rng, &[2 * MINUTE, 5 * MINUTE, 15 * MINUTE]),
            },
        };
        let limits = Limits {
            scopes: pick(&mut rng, &[4096, 4096, 4096, 3, 1]),
            inline: pick(&mut rng, &[2 * MINUTE, 2 * MINUTE, 10 * SECOND, 50, 0]),
            workers: pick(&mut rng, &[1024, 1024, 1024, 8, 3]),
            snapshots: pick(&mut rng, &[128 << 10, 128 << 10, 2000, 1]),
        };
        let runs = pick(&mut rng, &[1, 1, 1, 2, 3]);
        let starts = (0..runs).map(|n: u64| if n == 0 { 0 } else { rng.u64(0..10 * SECOND) }).collect();
        let calm_after = pick(&mut rng, &[20 * SECOND, 2 * MINUTE, 10 * MINUTE, 60 * MINUTE]);
        let faults = Faults::Random(Rates::random(&mut rng));
        let blows = blows(&mut rng, home, calm_after);
        Self {
            seed,
            home,
            limits,
            flow,
            starts,
            jitter: rng.u8(0..8) > 0,
            faults,
            blows,
            calm_after,
            abandoned: rng.bool(),
            answered: rng.u8(0..4) > 0,
        }
    }
}

impl Rates {
    fn random(rng: &mut Rng) -> Self {
        // One in sixteen histories has no faulty calls at all.
        if rng.u8(0..16) == 0 {
            return Self::default();
        }
        let mut rate = |most: u32| {
            let least = u64::from(most) / 64;
            if rng.bool() { u32::try_from(spread(rng, least, u64::from(most))).unwrap_or(most) } else { 0 }
        };
        Self {
            die: rate(10_000),
            unavailable: rate(20_000),
            unknown: rate(20_000),
            stall: rate(10_000),
            stale: rate(80_000),
            lose: rate(60_000),
            double: rate(50_000),
            delay: rate(50_000),
            late: rate(150_000),
            twice: rate(300_000),
        }
    }
}

fn blows(rng: &mut Rng, home: Home, until: u64) -> Vec<Blow> {
    let mut blows = Vec::new();
    let mut some = |rng: &mut Rng, most: u32, what: fn(&mut Rng) -> Hit| {
        if rng.u8(0..3) == 0 {
            for _ in 0..rng.u32(1..=most) {
                let after = spread(rng, 10, until);
                blows.push(Blow { after, process: rng.u32(0..home.processes()), what: what(rng) });
            }
        }
    };
    some(rng, 5, |_| Hit::Kill);
    some(rng, 3, |_| Hit::Restart);
    some(rng, 3, |rng| Hit::Freeze(spread(rng, SECOND, 3 * MINUTE)));
    some(rng, 3, |rng| {
        let by = i64::try_from(spread(rng, 100, 20 * MINUTE)).unwrap_or(0);
        Hit::Jump(if rng.bool() { by } else { -by })
    });
    some(rng, 2, |rng| Hit::Outage(spread(rng, 100, MINUTE)));
    some(rng, 3, |_| Hit::LoseDoorbells);
    blows.sort_by_key(|blow| blow.after);
    blows
}

/// From `least` to `most`, each order of magnitude alike.
pub(crate) fn spread(rng: &mut Rng, least: u64, most: u64) -> u64 {
    let (low, high) = (least.max(1).ilog2(), most.max(1).ilog2());
    let magnitude = 1_u64 << rng.u32(low..=high.max(low));
    rng.u64(magnitude..=magnitude.saturating_mul(2)).clamp(least, most.max(least))
}

fn pick<T: Copy + Default>(rng: &mut Rng, among: &[T]) -> T {
    among.get(rng.usize(0..among.len().max(1))).copied().unwrap_or_default()
}
