//! What each kind of state does.

use std::sync::Arc;

use expression::Object;
use expression::Value;
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use model::Action;
use model::Approval;
use model::Kind;
use model::OnReject;
use model::OnTimeout;
use model::Operation;
use model::Signal;
use model::StateId;
use model::SubWorkflow;
use model::Switch;
use model::Wait;
use model::While;

use super::Ask;
use super::Error;
use super::Moment;
use super::Outcome;
use super::Question;
use super::Role;
use super::Vote;
use super::Words;
use super::children::through;
use super::evaluate::View;
use super::scope::Go;
use super::scope::Halt;
use super::scope::Interpreter;
use super::scope::Line;
use super::scope::Stay;
use super::scope::is_in_steps;
use super::scope::later;
use super::scope::write_step;

type Evaluated<T> = Result<T, Error>;

impl<'a> Interpreter<'a> {
    /// Does what the state does, once it has been entered, and says where it goes on.
    pub(super) fn perform(&mut self, line: &mut Line, stay: &Stay<'a>) -> Go<Option<StateId>> {
        let next = stay.state.next;
        let view = &stay.view;
        match &stay.state.kind {
            Kind::Operation(operation) => self.operation(line, stay, operation),
            Kind::Approval(approval) => self.approval(line, stay, approval),
            Kind::Switch(switch) => {
                let target = self.route(line, view, switch);
                let target = self.or_fail(line, stay, target)?;
                self.complete(line, stay, None, Some(target))
            }
            Kind::Parallel(parallel) => self.parallel(line, stay, parallel),
            Kind::Foreach(foreach) => self.foreach(line, stay, foreach),
            Kind::While(repeat) => self.repeat(line, stay, repeat),
            Kind::Inject(data) => {
                let output = self.tree(line, view, data).map(|rendered| rendered.value);
                let output = self.or_fail(line, stay, output)?;
                self.complete(line, stay, Some(output), next)
            }
            Kind::Transform(transform) => {
                let output = match &transform.input_path {
                    None => self.program(line, view, &transform.program),
                    Some(path) => self.read(line, view, path).and_then(|value| {
                        let mut view = view.clone();
                        view.input = super::scope::Flow { value, from: None };
                        self.program(line, &view, &transform.program)
                    }),
                };
                let output = self.or_fail(line, stay, output)?;
                self.complete(line, stay, Some(output), next)
            }
            Kind::Wait(wait) => {
                let timer = self.timer(line, view, wait);
                let timer = self.or_fail(line, stay, timer)?;
                self.step(line, Moment::Asked(timer))?;
                if !self.oracle.fired(&line.place, &stay.state.address, stay.visit) {
                    return Err(self.unanswered(line, stay));
                }
                self.complete(line, stay, None, next)
            }
            Kind::Signal(signal) => self.signal(line, stay, signal),
            Kind::Try(handler) => self.attempt(line, stay, handler),
            Kind::Workflow(child) => self.child_run(line, stay, child),
            Kind::Cron => self.complete(line, stay, None, next),
            Kind::Fail(fail) => {
                let error = self.text(line, view, &fail.error).and_then(|kind| {
                    let message = fail.message.as_ref().map(|message| self.text(line, view, message));
                    let message = message.transpose()?.map_or_else(Words::any, Words::Exactly);
                    Ok(Error::new(kind, message))
                });
                let error = self.or_fail(line, stay, error)?;
                Err(self.fail(line, stay, error))
            }
            Kind::Succeed(output) => {
                let output = output.as_ref().map(|output| self.tree(line, view, output)).transpose();
                let output = self.or_fail(line, stay, output)?;
                self.complete(line, stay, output.map(|rendered| rendered.value), None)
            }
        }
    }

    pub(super) fn or_fail<T>(&mut self, line: &mut Line, stay: &Stay<'_>, evaluated: Evaluated<T>) -> Go<T> {
        evaluated.map_err(|error| self.fail(line, stay, error))
    }

    fn operation(&mut self, line: &mut Line, stay: &Stay<'_>, operation: &Operation) -> Go<Option<StateId>> {
        let rendered = self.tree(line, &stay.view, &operation.request);
        let mut rendered = self.or_fail(line, stay, rendered)?;
        if operation.receives_input && matches!(operation.action, Action::Agent(_)) {
            if rendered.value.as_object().is_none() {
                rendered.value = Value::object();
            }
            super::scope::insert(&mut rendered.value, &"input".into(), &stay.view.input.value);
        }
        let ask = Ask::Step { request: rendered.value, secrets: rendered.secrets };
        self.step(line, Moment::Asked(ask))?;
        match self.oracle.performed(&line.place, &stay.state.address, stay.visit) {
            Some(Ok(output)) => self.complete(line, stay, Some(output), stay.state.next),
            Some(Err(error)) => Err(self.fail(line, stay, error)),
            None => Err(self.unanswered(line, stay)),
        }
    }

    fn route(&self, line: &Line, view: &View, switch: &Switch) -> Evaluated<StateId> {
        let mut view = view.clone();
        if let Some(path) = &switch.data_path {
            view.data = Some(self.data(line, &view, path)?);
        }
        for (condition, target) in &switch.cases {
            if self.condition(line, &view, condition)? {
                return Ok(*target);
            }
        }
        switch.default.ok_or_else(|| Error::new("expression", Words::any()))
    }

    fn repeat(&mut self, line: &mut Line, stay: &Stay<'a>, repeat: &'a While) -> Go<Option<StateId>> {
        let (mut count, mut last) = (0_u64, Value::Null);
        let mut view = stay.view.clone();
        loop {
            let goes_on = self.condition(line, &view, &repeat.condition);
            if !self.or_fail(line, stay, goes_on)? {
                let output: Object = [("count", Value::from(count)), ("last", last)].into_iter().collect();
                return self.complete(line, stay, Some(output.into()), stay.state.next);
            }
            if count >= repeat.max_iterations {
                return Err(self.fail(line, stay, Error::new("expression", Words::any())));
            }
            self.step(line, Moment::Block(Role::While))?;
            count += 1;
            last = self.block(line, stay.view.input.clone(), &repeat.block)?;
            // The condition is about the round that it lets begin, and so is its time.
            if let Some(at) = self.oracle.time(&line.place) {
                view.at = at;
            }
        }
    }

    fn timer(&self, line: &Line, view: &View, wait: &Wait) -> Evaluated<Ask> {
        let unfit = |detail: &str| Error::new("validation", Words::with(detail));
        let until = match wait {
            Wait::For(length) => later(view.at, length.0),
            Wait::ForTemplate(template) => {
                let value = self.template(line, view, template)?;
                let length = model::duration(&value).map_err(|error| unfit(&error.to_string()))?;
                later(view.at, length.0)
            }
            Wait::Until(template) => {
                let text = self.text(line, view, template)?;
                let until = next_time(text.trim(), view.at).ok_or_else(|| unfit(&text))?;
                return Ok(Ask::Timer { until, absolute: true });
            }
        };
        Ok(Ask::Timer { until, absolute: false })
    }

    fn signal(&mut self, line: &mut Line, stay: &Stay<'_>, signal: &Signal) -> Go<Option<StateId>> {
        let name = self.text(line, &stay.view, &signal.name);
        let name = self.or_fail(line, stay, name)?;
        let deadline = signal.timeout.map(|timeout| later(stay.view.at, timeout.0));
        self.step(line, Moment::Asked(Ask::Signal { name, deadline }))?;
        let address = &stay.state.address;
        if let Some(payload) = self.oracle.signal(&line.place, address, stay.visit) {
            return self.complete(line, stay, Some(payload), stay.state.next);
        }
        if !self.oracle.timed_out(&line.place, address, stay.visit) {
            return Err(self.unanswered(line, stay));
        }
        match signal.on_timeout {
            Some(target) => self.complete(line, stay, Some(Value::Null), Some(target)),
            None => Err(self.fail(line, stay, waited())),
        }
    }

    fn question(&self, line: &Line, view: &View, approval: &Approval) -> Evaluated<Question> {
        let texts = approval.approvers.iter().map(|approver| self.text(line, view, approver));
        Ok(Question {
            summary: approval.summary_path.as_ref().map(|path| self.read(line, view, path)).transpose()?,
            approvers: texts.collect::<Result<_, _>>()?,
            message: self.text(line, view, &approval.message)?,
            title: approval.title.as_ref().map(|title| self.text(line, view, title)).transpose()?,
            quorum: approval.quorum,
            excluded: self.start.starter.clone().filter(|_| approval.separation_of_duties),
            deadline: later(view.at, approval.deadline.0),
        })
    }

    fn approval(&mut self, line: &mut Line, stay: &Stay<'_>, approval: &Approval) -> Go<Option<StateId>> {
        let question = self.question(line, &stay.view, approval);
        let question = self.or_fail(line, stay, question)?;
        self.step(line, Moment::Asked(Ask::Approval(Box::new(question))))?;
        let address = &stay.state.address;
        let votes = self.oracle.votes(&line.place, address, stay.visit);
        if let Some(vote) = deciding(&votes, approval.quorum) {
            return self.decided(line, stay, approval, Some(vote), vote.approve);
        }
        if !self.oracle.timed_out(&line.place, address, stay.visit) {
            return Err(self.unanswered(line, stay));
        }
        match approval.on_timeout {
            OnTimeout::Fail => Err(self.fail(line, stay, waited())),
            OnTimeout::Approve => self.decided(line, stay, approval, None, true),
            OnTimeout::Reject => self.decided(line, stay, approval, None, false),
            OnTimeout::Goto(target) => {
                let Some(at) = self.oracle.time(&line.place) else { return Err(self.unanswered(line, stay)) };
                let output = decision(None, "timeout", at);
                self.complete(line, stay, Some(output), Some(target))
            }
        }
    }

    /// A decision is written before anything follows from it.
    fn decided(
        &mut self,
        line: &mut Line,
        stay: &Stay<'_>,
        approval: &Approval,
        vote: Option<&Vote>,
        approved: bool,
    ) -> Go<Option<StateId>> {
        let Some(at) = self.oracle.time(&line.place) else { return Err(self.unanswered(line, stay)) };
        let output = decision(vote, if approved { "approve" } else { "reject" }, at);
        self.step(line, Moment::Decided { approved, output: output.clone() })?;
        write_step(&mut line.context, stay.state, &output);
        if let Some(path) = &stay.state.result_path {
            // One that cannot be written fails the state, if it gets that far.
            let _ = path.write(&mut line.context, output.clone());
            if !is_in_steps(path) {
                let _ = path.write(&mut line.writes, output.clone());
            }
        }
        if approved {
            return self.complete(line, stay, Some(output), stay.state.next);
        }
        let reason =
            vote.and_then(|vote| vote.comment.as_ref()).map_or_else(Words::any, |why| Words::with(why));
        match approval.on_reject {
            OnReject::Goto(target) => self.complete(line, stay, Some(output), Some(target)),
            OnReject::Fail => Err(self.fail(line, stay, Error::new("rejected", reason))),
            OnReject::Cancel => Err(self.cancel(line, Some(reason))),
        }
    }

    /// The workflow cancels its run; nothing catches that.
    pub(super) fn cancel(&mut self, line: &mut Line, reason: Option<Words>) -> Halt {
        match self.step(line, Moment::Cancels { reason: reason.clone() }) {
            Ok(()) => match line.trail.last() {
                Some(Moment::Cancels { reason }) => Halt::Cancelled(reason.clone()),
                _ => Halt::Cancelled(reason),
            },
            Err(halt) => halt,
        }
    }

    fn child_run(&mut self, line: &mut Line, stay: &Stay<'_>, child: &SubWorkflow) -> Go<Option<StateId>> {
        let view = &stay.view;
        let asked = self.text(line, view, &child.workflow).and_then(|workflow| {
            let input = match &child.input {
                Some(input) => self.tree(line, view, input)?.value,
                None => view.input.value.clone(),
            };
            Ok((workflow, input))
        });
        let (workflow, input) = self.or_fail(line, stay, asked)?;
        let ask = Ask::Run { workflow: workflow.clone(), version: child.version.clone(), input };
        self.step(line, Moment::Asked(ask))?;
        let error = match self.oracle.child(&line.place, &stay.state.address, stay.visit) {
            None => return Err(self.unanswered(line, stay)),
            Some(Outcome::Completed(output)) => {
                return self.complete(line, stay, Some(output), stay.state.next);
            }
            Some(Outcome::Cancelled(reason)) => {
                let reason = reason.map_or_else(Words::any, |reason| match reason {
                    Words::Exactly(text) | Words::With(text) => Words::With(text),
                });
                Error::new("cancelled", reason)
            }
            Some(Outcome::Failed(error) | Outcome::TimedOut(error)) => {
                // It keeps its type: that of the last attempt. What it waited for is the child's affair.
                let error = error.cause.map_or_else(|| Error { cause: None, ..error }, |cause| *cause);
                Error { attempts: 0, waited: false, ..through(error, &stay.state.name, &workflow) }
            }
        };
        Err(self.fail(line, stay, error))
    }
}

/// The vote that decides: the first rejection, or the approval that makes the quorum.
fn deciding(votes: &[Vote], quorum: u32) -> Option<&Vote> {
    let mut approvals = 0;
    votes.iter().find(|vote| {
        approvals += u32::from(vote.approve);
        !vote.approve || approvals >= quorum
    })
}

fn decision(vote: Option<&Vote>, decision: &str, at: Timestamp) -> Value {
    let text = |text: Option<&Arc<str>>| text.map_or(Value::Null, |text| Value::from(text.clone()));
    let comment = match vote {
        Some(vote) => text(vote.comment.as_ref()),
        None => Value::from("nobody decided in time"),
    };
    let mut output = Object::new();
    output.insert("approved", decision == "approve");
    output.insert("decision", decision);
    output.insert("approver", text(vote.map(|vote| &vote.approver)));
    output.insert("comment", comment.clone());
    output.insert("reason", comment);
    output.insert("form", vote.and_then(|vote| vote.form.clone()).unwrap_or_default());
    output.insert("decidedAt", at.to_string());
    output.into()
}

/// The deadline of an approval or a signal.
fn waited() -> Error {
    Error { waited: true, ..Error::new("timeout", Words::any()) }
}

/// An RFC 3339 time, or the next such time of day in UTC.
fn next_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let time: Time = text.parse().ok()?;
    let today = now.to_zoned(TimeZone::UTC).date();
    let of = |date: jiff::civil::Date| Some(date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?.timestamp());
    match of(today) {
        Some(at) if at > now => Some(at),
        _ => of(today.checked_add(1.day()).ok()?),
    }
}
