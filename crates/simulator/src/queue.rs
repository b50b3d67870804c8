//! A durable queue: at least once, in no order, back after its visibility timeout when nobody said that it was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::ScopeKey;
use fastrand::Rng;
use parking_lot::Mutex;
use runtime::ports::Delivery;
use runtime::ports::Hint;
use runtime::ports::Queue;
use runtime::ports::Ring;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::process::Life;

/// SQS holds nothing back longer.
const LONGEST: Duration = Duration::from_mins(15);
/// No heartbeat keeps a doorbell from others longer.
const HELD: Duration = Duration::from_mins(30);

/// Both queues.
pub(crate) struct Queues {
    lanes: [Lane; 2],
    /// How long a delivered doorbell is kept from others.
    visibility: Duration,
    /// As long as its process lives, it is kept from others.
    heartbeats: bool,
}

struct Lane {
    state: Mutex<State>,
    rung: Notify,
}

struct State {
    messages: BTreeMap<u64, Message>,
    count: u64,
    rng: Rng,
}

struct Message {
    scope: ScopeKey,
    hints: Vec<Hint>,
    visible: Instant,
    received: u32,
    holder: Option<(Arc<Life>, Instant)>,
}

impl Queues {
    pub(crate) fn new(rng: &mut Rng, visibility: Duration, heartbeats: bool) -> Self {
        let mut lane = || Lane {
            state: Mutex::new(State { messages: BTreeMap::new(), count: 0, rng: rng.fork() }),
            rung: Notify::new(),
        };
        Self { lanes: [lane(), lane()], visibility, heartbeats }
    }

    fn lane(&self, queue: Queue) -> &Lane {
        let [steps, resume] = &self.lanes;
        match queue {
            Queue::Steps => steps,
            Queue::Resume => resume,
        }
    }

    pub(crate) fn ring(&self, ring: Ring) {
        let lane = self.lane(ring.queue);
        let hints = match ring.hint {
            Hint::None => Vec::new(),
            hint => vec![hint],
        };
        let visible = Instant::now() + ring.after.min(LONGEST);
        let message = Message { scope: ring.scope, hints, visible, received: 0, holder: None };
        {
            let mut state = lane.state.lock();
            state.count += 1;
            let number = state.count;
            state.messages.insert(number, message);
        }
        lane.rung.notify_waiters();
    }

    /// Waits for doorbells.
    pub(crate) async fn receive(&self, queue: Queue, max: usize, life: &Arc<Life>) -> Vec<Delivery> {
        let lane = self.lane(queue);
        loop {
            let mut rung = std::pin::pin!(lane.rung.notified());
            rung.as_mut().enable();
            if life.is_dead() {
                return std::future::pending().await;
            }
            let (deliveries, next) = self.take(queue, max, life);
            if !deliveries.is_empty() {
                return deliveries;
            }
            match next {
                None => rung.await,
                Some(next) => tokio::select! {
                    biased;
                    () = rung => {}
                    () = tokio::time::sleep_until(next) => {}
                },
            }
        }
    }

    /// What can be delivered now; if nothing, when something may be.
    fn take(&self, queue: Queue, max: usize, life: &Arc<Life>) -> (Vec<Delivery>, Option<Instant>) {
        let now = Instant::now();
        let mut state = self.lane(queue).state.lock();
        let state = &mut *state;
        let mut deliveries = Vec::new();
        while deliveries.len() < max {
            let ready: Vec<u64> = state
                .messages
                .iter()
                .filter(|(_, message)| message.is_ready(now, self.heartbeats))
                .map(|(number, _)| *number)
                .collect();
            let Some(number) = ready.get(state.rng.usize(0..ready.len().max(1))) else { break };
            let Some(message) = state.messages.get_mut(number) else { break };
            message.visible = now + self.visibility;
            message.holder = Some((life.clone(), now));
            message.received += 1;
            deliveries.push(Delivery {
                scope: message.scope.clone(),
                queue,
                hints: message.hints.clone(),
                redeliveries: message.received - 1,
                receipt: format!("{number}/{}", message.received).into(),
            });
        }
        let next = state.messages.values().map(|message| message.ready_at(now)).min();
        (deliveries, next)
    }

    pub(crate) fn acknowledge(&self, delivery: &Delivery) {
        if let Some((number, _)) = read(delivery) {
            self.lane(delivery.queue).state.lock().messages.remove(&number);
        }
    }

    /// Another process has it now.
    pub(crate) fn hand_to(&self, delivery: &Delivery, life: &Arc<Life>) {
        self.change(delivery, |message| message.holder = Some((life.clone(), Instant::now())));
    }

    pub(crate) fn put_off(&self, delivery: &Delivery, by: Duration) {
        self.change(delivery, |message| message.visible = Instant::now() + by);
    }

    pub(crate) fn give_back(&self, delivery: &Delivery, after: Duration) {
        self.change(delivery, |message| {
            message.visible = Instant::now() + after;
            message.holder = None;
        });
        self.lane(delivery.queue).rung.notify_waiters();
    }

    /// Changes a message, if this delivery of it is the last.
    fn change(&self, delivery: &Delivery, change: impl FnOnce(&mut Message)) {
        let Some((number, received)) = read(delivery) else { return };
        let mut state = self.lane(delivery.queue).state.lock();
        if let Some(message) = state.messages.get_mut(&number)
            && message.received == received
        {
            change(message);
        }
    }

    /// All that was not acknowledged is lost.
    pub(crate) fn lose_all(&self) {
        for lane in &self.lanes {
            lane.state.lock().messages.clear();
        }
    }

    /// How many there are, delivered or not.
    pub(crate) fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.state.lock().messages.len()).sum()
    }
}

impl Message {
    fn is_ready(&self, now: Instant, heartbeats: bool) -> bool {
        let holds = |(life, since): &(Arc<Life>, Instant)| !life.is_dead() && *since + HELD > now;
        self.visible <= now && !(heartbeats && self.holder.as_ref().is_some_and(holds))
    }

    fn ready_at(&self, now: Instant) -> Instant {
        // A held one is looked at again now and then: its holder may die.
        if self.visible <= now { now + Duration::from_secs(10) } else { self.visible }
    }
}

fn read(delivery: &Delivery) -> Option<(u64, u32)> {
    let (number, received) = delivery.receipt.split_once('/')?;
    Some((number.parse().ok()?, received.parse().ok()?))
}
