//! Agents: they do what the flow says, for whoever calls them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::ScopeKey;
use expression::Value;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use tokio::time::Instant;

use super::Port;
use crate::doubles::CUT_OFF;
use crate::doubles::CutOff;
use crate::doubles::Said;
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
        let mut behaviour = flow::behaviour(&call);
        let key = call.idempotency_key.clone();
        let number = self.world.called(&self.life, |number| What::Called {
            call: number,
            by: self.life.id,
            scope: scope.clone(),
            step: call.step,
            state: call.state,
            attempt: call.attempt,
            epoch: call.epoch,
            key: call.idempotency_key,
            request: call.request,
        });
        let open = Open { port: self, number };
        match self.world.said(&key) {
            Some(said) => said.to(&mut behaviour),
            None => self.double(
                &mut behaviour,
                turn.fault,
                &key,
                CutOff { call: number, by: self.life.id, scope, until: Instant::now() + CUT_OFF },
            ),
        }
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
            self.world.heard(&key);
        }
        drop(open);
        if let Some(Mischief::StallAfter(millis)) = turn.fault {
            self.pause(Pause::Sleep(millis)).await;
        }
        behaviour.answer
    }
}

impl Port {
    /// Makes an agent one that answers twice, if that is to become of it.
    fn double(
        &self,
        behaviour: &mut flow::Behaviour,
        fault: Option<Mischief>,
        key: &Arc<str>,
        cut_off: CutOff,
    ) {
        let (Some(Mischief::Twice(millis) | Mischief::Otherwise(millis)), false) = (fault, behaviour.never)
        else {
            return;
        };
        behaviour.takes += Duration::from_millis(millis);
        let said = match fault {
            Some(Mischief::Twice(_)) => {
                Said::Same { at: Instant::now() + behaviour.takes, answer: behaviour.answer.clone() }
            }
            _ => Said::Otherwise,
        };
        self.world.twice(key, said, cut_off);
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
