//! The commands of one operation within a batch: their keys, outcomes and answers.

use super::{
    answer::Answer,
    command::{Command, Deferred, Outcome, Reply, SubmitError},
    envelope::TraceId,
    fault::Fault,
    idempotency::{self, IdempotencyKey, KeyState},
    work::Work,
};
use crate::Service;
use contracts::Code;
use futures::future::BoxFuture;
use runtime::ports::Stopwatch;
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};
use tokio::sync::oneshot;
use uuid::Uuid;

type ReplySender = oneshot::Sender<Result<Reply, SubmitError>>;

/// The way back to the caller of a command. Dropped without a reply, because the writer has ended, it says as much as is known.
struct ReplySlot {
    /// `None`: the caller has its reply.
    sender: Option<ReplySender>,
    /// True once the command was taken from the queue: its transaction may have committed.
    was_taken: bool,
}

impl ReplySlot {
    fn send(mut self, reply: Result<Reply, SubmitError>) {
        if let Some(sender) = self.sender.take() {
            // Fails when the caller has disconnected. The effect stays.
            let _ = sender.send(reply);
        }
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(Err(if self.was_taken { SubmitError::Unknown } else { SubmitError::Unavailable }));
        }
    }
}

/// A command in the queue.
pub(super) struct QueuedCommand<C: Command> {
    service: Arc<C::Service>,
    command: C,
    key: Option<IdempotencyKey>,
    trace: TraceId,
    reply: ReplySlot,
    queued: Stopwatch,
}

impl<C: Command> QueuedCommand<C> {
    pub fn new(service: Arc<C::Service>, command: C, key: Option<IdempotencyKey>, trace: TraceId, reply: ReplySender) -> Self {
        Self { service, command, key, trace, reply: ReplySlot { sender: Some(reply), was_taken: false }, queued: Stopwatch::start() }
    }
}

pub(crate) trait AnyCommand: Send {
    /// Commands with the same key are handled together: same command type, same service.
    fn group_key(&self) -> (TypeId, &'static str);
    fn is_exclusive(&self) -> bool;
    fn into_group(self: Box<Self>) -> Box<dyn AnyGroup>;
    fn join(self: Box<Self>, group: &mut dyn AnyGroup);
}

impl<C: Command> AnyCommand for QueuedCommand<C> {
    fn group_key(&self) -> (TypeId, &'static str) {
        (TypeId::of::<C>(), self.service.name())
    }
    fn is_exclusive(&self) -> bool {
        self.command.is_exclusive()
    }
    fn into_group(mut self: Box<Self>) -> Box<dyn AnyGroup> {
        self.reply.was_taken = true;
        metrics::histogram!("onrush_batch_queue_seconds").record(self.queued.elapsed().as_secs_f64());
        Box::new(Group::<C> { service: Arc::clone(&self.service), commands: vec![*self], states: Vec::new() })
    }
    fn join(mut self: Box<Self>, group: &mut dyn AnyGroup) {
        self.reply.was_taken = true;
        group.as_any().downcast_mut::<Group<C>>().expect("groups are looked up by the command's type").commands.push(*self);
    }
}

/// The commands of one operation within a batch.
pub(crate) trait AnyGroup: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn operation(&self) -> &'static str;
    fn service_name(&self) -> &'static str;
    fn len(&self) -> usize;
    /// Handles all commands inside the transaction.
    fn run<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>>;
    /// Completes the answers that depend on the end of the transaction, and stores those with an idempotency key.
    fn finish<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>>;
    /// Sends the replies. Called after the commit.
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: SubmitError);
    /// Splits a group of at least two into two halves.
    fn split(self: Box<Self>) -> (Box<dyn AnyGroup>, Box<dyn AnyGroup>);
}

struct Group<C: Command> {
    service: Arc<C::Service>,
    commands: Vec<QueuedCommand<C>>,
    states: Vec<CommandState>,
}

enum CommandState {
    Done(Reply),
    Open(Outcome),
    /// Repeats the key of an earlier command of this group.
    SameAs(usize),
    Stale,
}

impl<C: Command> Group<C> {
    /// Looks up the idempotency keys. Commands with a stored answer get a replay. `None`: the command must be handled.
    async fn look_up_keys(&self, work: &mut Work) -> Result<Vec<Option<CommandState>>, Fault> {
        let mut first_with: HashMap<(Uuid, &str), usize> = HashMap::new();
        let mut states = Vec::with_capacity(self.commands.len());
        let mut to_look_up: Vec<(usize, &IdempotencyKey)> = Vec::new();
        for (index, queued) in self.commands.iter().enumerate() {
            states.push(None);
            let Some(key) = &queued.key else { continue };
            if let Some(&earlier) = first_with.get(&(key.scope, key.key.as_str())) {
                let is_same = self.commands[earlier].key.as_ref().is_some_and(|first| first.request_hash == key.request_hash);
                states[index] = Some(if is_same {
                    CommandState::SameAs(earlier)
                } else {
                    done_with_refusal(Code::IdempotencyKeyMismatch, queued.trace)
                });
                continue;
            }
            first_with.insert((key.scope, key.key.as_str()), index);
            to_look_up.push((index, key));
        }
        let keys: Vec<&IdempotencyKey> = to_look_up.iter().map(|(_, key)| *key).collect();
        let key_states = idempotency::look_up_all(&mut work.tx, self.service.name(), C::OPERATION, &keys).await?;
        for ((index, _), key_state) in to_look_up.into_iter().zip(key_states) {
            let trace = self.commands[index].trace;
            states[index] = match key_state {
                KeyState::Fresh => None,
                KeyState::Answered(answer) => Some(CommandState::Done(Reply::Answer(answer))),
                KeyState::OtherRequest => Some(done_with_refusal(Code::IdempotencyKeyMismatch, trace)),
                KeyState::Running => Some(done_with_refusal(Code::IdempotencyInProgress, trace)),
            };
        }
        Ok(states)
    }

    /// The deferred answers, in order.
    async fn resolve(&self, work: &mut Work) -> Result<Vec<Option<Answer>>, Fault> {
        let commands = self.commands.iter().zip(&self.states);
        let deferred: Vec<Deferred<'_, C>> = commands
            .filter_map(|(queued, state)| match state {
                CommandState::Open(Outcome::Deferred(id)) => Some(Deferred { command: &queued.command, key: queued.key.as_ref(), id: *id }),
                _ => None,
            })
            .collect();
        if deferred.is_empty() {
            return Ok(Vec::new());
        }
        let answers = C::resolve(&self.service, work, &deferred).await?;
        match answers.len() == deferred.len() {
            true => Ok(answers),
            false => Err(Fault::Bug(format!("{}: {} answers for {} commands", C::OPERATION, answers.len(), deferred.len()))),
        }
    }
}

fn done_with_refusal(code: Code, trace: TraceId) -> CommandState {
    CommandState::Done(Reply::Answer(with_trace(Answer::refusal(&code.into()), trace)))
}

/// Adds the trace id of the request to a problem.
fn with_trace(mut answer: Answer, trace: TraceId) -> Answer {
    if answer.is_problem() && answer.body.last() == Some(&b'}') {
        let mut body = answer.body[..answer.body.len() - 1].to_vec();
        body.extend_from_slice(format!(",\"trace_id\":\"{}\"}}", trace.simple()).as_bytes());
        answer.body = body.into();
    }
    answer
}

impl<C: Command> AnyGroup for Group<C> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
    fn operation(&self) -> &'static str {
        C::OPERATION
    }
    fn service_name(&self) -> &'static str {
        self.service.name()
    }
    fn len(&self) -> usize {
        self.commands.len()
    }

    fn run<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut states = self.look_up_keys(work).await?;
            let commands: Vec<&C> =
                self.commands.iter().zip(&states).filter(|(_, state)| state.is_none()).map(|(queued, _)| &queued.command).collect();
            if !commands.is_empty() {
                let expected = commands.len();
                let outcomes = C::handle(&self.service, work, &commands).await?;
                if outcomes.len() != expected {
                    return Err(Fault::Bug(format!("{}: {} outcomes for {expected} commands", C::OPERATION, outcomes.len())));
                }
                let mut outcomes = outcomes.into_iter();
                for state in states.iter_mut().filter(|state| state.is_none()) {
                    *state = outcomes.next().map(CommandState::Open);
                }
            }
            self.states = states.into_iter().flatten().collect();
            Ok(())
        })
    }

    fn finish<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut deferred = self.resolve(work).await?.into_iter();
            let mut done: Vec<usize> = Vec::new();
            for (index, (queued, state)) in self.commands.iter().zip(&mut self.states).enumerate() {
                let CommandState::Open(outcome) = state else { continue };
                let reply = match outcome {
                    Outcome::Answer(answer) => Reply::Answer(with_trace(answer.clone(), queued.trace)),
                    Outcome::Deferred(id) => match deferred.next().flatten() {
                        Some(answer) => Reply::Answer(with_trace(answer, queued.trace)),
                        None => Reply::Pending(*id),
                    },
                    Outcome::Stale => {
                        *state = CommandState::Stale;
                        continue;
                    }
                };
                *state = CommandState::Done(reply);
                done.push(index);
            }
            let answers: Vec<(&IdempotencyKey, Option<&Answer>)> = done.into_iter().filter_map(|index| self.stored_answer(index)).collect();
            Ok(idempotency::store(&mut work.tx, self.service.name(), C::OPERATION, &answers, work.now).await?)
        })
    }

    fn answer(self: Box<Self>) {
        let group = *self;
        let replies: Vec<Result<Reply, SubmitError>> = (0..group.commands.len()).map(|index| group.reply(index)).collect();
        for (queued, reply) in group.commands.into_iter().zip(replies) {
            queued.reply.send(reply);
        }
    }

    fn fail(self: Box<Self>, error: SubmitError) {
        for queued in self.commands {
            queued.reply.send(Err(error.clone()));
        }
    }

    fn split(mut self: Box<Self>) -> (Box<dyn AnyGroup>, Box<dyn AnyGroup>) {
        let rest = self.commands.split_off(self.commands.len() / 2);
        let service = Arc::clone(&self.service);
        (self, Box::new(Group::<C> { service, commands: rest, states: Vec::new() }))
    }
}

impl<C: Command> Group<C> {
    /// The answer to store with the key of a command. `None`: the command has no key.
    fn stored_answer(&self, index: usize) -> Option<(&IdempotencyKey, Option<&Answer>)> {
        let answer = match self.states.get(index)? {
            CommandState::Done(Reply::Answer(answer)) => Some(answer),
            _ => None,
        };
        Some((self.commands[index].key.as_ref()?, answer))
    }

    fn reply(&self, index: usize) -> Result<Reply, SubmitError> {
        match self.states.get(index) {
            Some(CommandState::Done(reply)) => Ok(reply.clone()),
            Some(CommandState::SameAs(earlier)) => Ok(match self.reply(*earlier)? {
                Reply::Answer(answer) => Reply::Answer(Answer { replayed: true, ..answer }),
                Reply::Pending(id) => Reply::Pending(id),
            }),
            Some(CommandState::Stale) => Err(SubmitError::Stale),
            Some(CommandState::Open(_)) | None => Ok(Reply::Answer(Answer::refusal(&Code::Internal.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // finding 16: a writer that ends says whether the command may have been executed.
    #[tokio::test]
    async fn a_dropped_command_says_what_is_known() {
        for (was_taken, known) in [(false, SubmitError::Unavailable), (true, SubmitError::Unknown)] {
            let (sender, reply) = oneshot::channel();
            drop(ReplySlot { sender: Some(sender), was_taken });
            assert_eq!(reply.await, Ok(Err(known)));
        }
        let (sender, reply) = oneshot::channel();
        ReplySlot { sender: Some(sender), was_taken: true }.send(Ok(Reply::Answer(Answer::empty(204))));
        assert_eq!(reply.await, Ok(Ok(Reply::Answer(Answer::empty(204)))));
    }
}
