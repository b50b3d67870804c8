//! Doorbells: in the memory of a process, or in a queue that outlives it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtime::memory;
use runtime::ports::Delivery;
use runtime::ports::Doorbell;
use runtime::ports::Queue;
use runtime::ports::Ring;
use runtime::ports::StoreError;

use super::Port;
use crate::observation::What;
use crate::plan::Mischief;
use crate::queue::Queues;
use crate::world::About;
use crate::world::Nature;

/// The doorbells as one process sees them.
pub(crate) struct Bells {
    port: Arc<Port>,
    kept: Kept,
}

enum Kept {
    Memory(Box<memory::Doorbell>),
    Queue(Arc<Queues>),
}

impl Bells {
    pub(crate) fn memory(port: Arc<Port>) -> Self {
        let kept = Kept::Memory(Box::new(memory::Doorbell::new(port.clone())));
        Self { port, kept }
    }

    pub(crate) fn queue(port: Arc<Port>, queues: Arc<Queues>) -> Self {
        Self { port, kept: Kept::Queue(queues) }
    }

    /// What becomes of the single doorbells: some are lost, some ring twice, some late.
    fn fates(&self, rings: Vec<Ring>) -> Vec<Ring> {
        let mut fates = Vec::with_capacity(rings.len());
        for mut ring in rings {
            let life = Some(&*self.port.life);
            let turn = self.port.world.turn(life, "bell", About::Scope(&ring.scope), Nature::Bell);
            match turn.fault {
                Some(Mischief::Lose) => {
                    self.port.world.observe(life, What::DoorbellLost);
                    continue;
                }
                Some(Mischief::Double(millis)) => {
                    let after = ring.after + Duration::from_millis(millis);
                    fates.push(Ring { after, ..ring.clone() });
                }
                Some(Mischief::Delay(millis)) => ring.after += Duration::from_millis(millis),
                _ => {}
            }
            fates.push(ring);
        }
        fates
    }

    /// Memory does not fail, but by dying.
    fn nature(&self, nature: Nature) -> Nature {
        match &self.kept {
            Kept::Memory(_) => Nature::Local,
            Kept::Queue(_) => nature,
        }
    }

    async fn put(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        let rings = self.fates(rings);
        match &self.kept {
            Kept::Memory(bell) => bell.ring(rings).await,
            Kept::Queue(queues) => {
                for ring in rings {
                    queues.ring(ring);
                }
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Doorbell for Bells {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        let scope = rings.first().map(|ring| ring.scope.clone());
        let about = scope.as_ref().map_or(About::Nothing, About::Scope);
        self.port.call("ring", about, self.nature(Nature::Ring), |_| self.put(rings), |error| error).await
    }

    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let name = match queue {
            Queue::Steps => "steps",
            Queue::Resume => "resume",
        };
        let receive = |_| async {
            let received = match &self.kept {
                Kept::Memory(bell) => bell.receive(queue, max).await,
                Kept::Queue(queues) => Ok(queues.receive(queue, max, &self.port.life).await),
            };
            // What came while it was frozen, it has when it moves again.
            self.port.life.moves().await;
            received
        };
        self.port.call("receive", About::Text(name), Nature::Receive, receive, |error| error).await
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        let scope = delivery.scope.clone();
        let acknowledge = |_| async {
            match &self.kept {
                Kept::Memory(bell) => bell.acknowledge(delivery).await,
                Kept::Queue(queues) => {
                    queues.acknowledge(&delivery);
                    Ok(())
                }
            }
        };
        self.port
            .call("acknowledge", About::Scope(&scope), self.nature(Nature::Write), acknowledge, |error| error)
            .await
    }

    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
        let Some(first) = deliveries.first() else { return Ok(()) };
        let extend = |_| async {
            match &self.kept {
                Kept::Memory(bell) => bell.extend(deliveries, by).await,
                Kept::Queue(queues) => {
                    for delivery in deliveries {
                        queues.put_off(delivery, by);
                    }
                    Ok(())
                }
            }
        };
        self.port
            .call("extend", About::Scope(&first.scope), self.nature(Nature::Write), extend, |error| error)
            .await
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        let scope = delivery.scope.clone();
        let retry = |_| async {
            match &self.kept {
                Kept::Memory(bell) => bell.retry(delivery, after).await,
                Kept::Queue(queues) => {
                    queues.give_back(&delivery, after);
                    Ok(())
                }
            }
        };
        self.port.call("retry", About::Scope(&scope), self.nature(Nature::Write), retry, |error| error).await
    }
}
