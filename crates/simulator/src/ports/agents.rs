//! Agents: they do what the flow says, for whoever calls them.

use std::time::Duration;

use async_trait::async_trait;
use engine::ScopeKey;
use expression::Value;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;

use super::Port;
use crate::flow;
use crate::observation::What;
use crate::plan::Mischief;
use crate::world::About;
use crate::world::Nature;
use crate::world::Pause;
use crate::world::World;

#[async_trait]
impl Agents for Port {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        self.life.moves().await;
        let scope = ScopeKey::new(call.run.clone(), call.scope.clone());
        let turn = self.world.turn(Some(&self.life), "perform", About::Scope(&scope), Nature::Perform);
        if let Some(Mischief::DieBefore) = turn.fault {
            return self.die().await;
        }
        let behaviour = flow::behaviour(&call);
        let number = self.world.called(&self.life, |number| What::Called {
            call: number,
            by: self.life.id,
            scope,
            step: call.step,
            state: call.state,
            attempt: call.attempt,
            epoch: call.epoch,
            key: call.idempotency_key,
            request: call.request,
        });
        let open = Open { port: self, number };
        if let Some(Mischief::StallBefore(millis)) = turn.fault {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if !behaviour.takes.is_zero() {
            tokio::time::sleep(behaviour.takes).await;
        }
        if behaviour.never {
            return std::future::pending().await;
        }
        if let Some(Mischief::Late(millis)) = turn.fault {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        if let Some(Mischief::DieAfter) = turn.fault {
            return self.die().await;
        }
        self.life.moves().await;
        if self.world.closed(number) {
            let answer = behaviour.answer.clone();
            self.world.observe(Some(&self.life), What::Answered { call: number, answer });
        }
        drop(open);
        if let Some(Mischief::StallAfter(millis)) = turn.fault {
            self.pause(Pause::Sleep(millis)).await;
        }
        behaviour.answer
    }
}

/// A call that somebody waits for.
struct Open<'a> {
    port: &'a Port,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let world: &World = &self.port.world;
        if world.closed(self.number) {
            world.observe(Some(&self.port.life), What::Dropped { call: self.number });
        }
    }
}
