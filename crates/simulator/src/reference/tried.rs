//! `try`: who catches what, and what runs whatever happened.

use expression::Value;
use model::StateId;
use model::Try;

use super::Error;
use super::Moment;
use super::Role;
use super::evaluate::error_value;
use super::scope::Flow;
use super::scope::Go;
use super::scope::Halt;
use super::scope::Interpreter;
use super::scope::Line;
use super::scope::Stay;
use super::scope::insert;

impl<'a> Interpreter<'a> {
    pub(super) fn attempt(
        &mut self,
        line: &mut Line,
        stay: &Stay<'a>,
        handler: &'a Try,
    ) -> Go<Option<StateId>> {
        let input = &stay.view.input;
        self.step(line, Moment::Block(Role::Try))?;
        let mut came = self.block(line, input.clone(), &handler.body);
        if let Err(Halt::Raised(error, floor)) = &came
            && let Some(clause) = clause(line, handler, error, *floor)
        {
            let error = error.clone();
            came = self.catch(line, handler, clause, error);
        }
        let Some(finally) = &handler.finally else {
            return self.complete(line, stay, Some(came?), stay.state.next);
        };
        // What ends the scope ends it here; an error waits until it is done.
        while matches!(came, Ok(_) | Err(Halt::Raised(..))) {
            match self.step(line, Moment::Block(Role::Finally)) {
                Ok(()) => break,
                Err(halt) => came = Err(halt),
            }
        }
        let came = match came {
            Ok(output) => Ok(output),
            Err(Halt::Raised(error, floor)) => Err((error, floor)),
            Err(halt) => return Err(halt),
        };
        self.block(line, input.clone(), finally)?;
        match came {
            Ok(output) => self.complete(line, stay, Some(output), stay.state.next),
            Err((error, floor)) => Err(self.raise(line, error, floor)),
        }
    }

    fn catch(&mut self, line: &mut Line, handler: &'a Try, clause: usize, error: Error) -> Go<Value> {
        let Some(catch) = handler.catch.get(clause) else { return Err(Halt::Raised(error, None)) };
        let number = u32::try_from(clause).unwrap_or(u32::MAX);
        self.step(line, Moment::Caught { clause: number, error: error.clone() })?;
        let value = error_value(&error);
        if let Some(name) = &catch.bind {
            insert(&mut line.context, name, &value);
        }
        line.caught.push(error);
        let came = self.block(line, Flow { value, from: None }, &catch.block);
        line.caught.pop();
        came
    }
}

/// The first clause for this error. A state that took too long is out of reach for what stands inside of it.
fn clause(line: &Line, handler: &Try, error: &Error, floor: Option<u32>) -> Option<usize> {
    let depth = line.open.len().saturating_sub(1);
    if floor.is_some_and(|floor| depth >= floor as usize) {
        return None;
    }
    handler
        .catch
        .iter()
        .position(|catch| catch.errors.as_ref().is_none_or(|errors| errors.contains(&error.kind)))
}
