//! The commands of one operation within a batch: their keys, their outcomes, their answers.

use super::{Answer, Command, Later, Outcome, Reply, SubmitError, TraceId};
use crate::{
    engine::{Fault, Work},
    idempotency::{self, Claim, IdempotencyKey},
    ports::Stopwatch,
    service::Service,
};
use contracts::Code;
use futures::future::BoxFuture;
use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};
use tokio::sync::oneshot;
use uuid::Uuid;

type ReplyTo = oneshot::Sender<Result<Reply, SubmitError>>;

/// A command in the queue.
pub(super) struct Job<C: Command> {
    service: Arc<C::Service>,
    command: C,
    key: Option<IdempotencyKey>,
    trace: TraceId,
    reply: ReplyTo,
    queued: Stopwatch,
}

impl<C: Command> Job<C> {
    pub fn new(service: Arc<C::Service>, command: C, key: Option<IdempotencyKey>, trace: TraceId, reply: ReplyTo) -> Self {
        Self { service, command, key, trace, reply, queued: Stopwatch::start() }
    }
}

pub(crate) trait AnyJob: Send {
    /// What may be settled together: the command's type and whose command it is.
    fn kind(&self) -> (TypeId, &'static str);
    fn alone(&self) -> bool;
    fn into_group(self: Box<Self>) -> Box<dyn AnyGroup>;
    fn join(self: Box<Self>, group: &mut dyn AnyGroup);
}

impl<C: Command> AnyJob for Job<C> {
    fn kind(&self) -> (TypeId, &'static str) {
        (TypeId::of::<C>(), self.service.name())
    }
    fn alone(&self) -> bool {
        self.command.alone()
    }
    fn into_group(self: Box<Self>) -> Box<dyn AnyGroup> {
        metrics::histogram!("onrush_batch_queue_seconds").record(self.queued.elapsed().as_secs_f64());
        Box::new(Group::<C> { service: Arc::clone(&self.service), jobs: vec![*self], states: Vec::new() })
    }
    fn join(self: Box<Self>, group: &mut dyn AnyGroup) {
        group.as_any().downcast_mut::<Group<C>>().expect("groups are looked up by the command's type").jobs.push(*self);
    }
}

/// The commands of one operation within a batch.
pub(crate) trait AnyGroup: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn operation(&self) -> &'static str;
    fn service_name(&self) -> &'static str;
    fn len(&self) -> usize;
    /// Settles all commands inside the transaction.
    fn run<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>>;
    /// Completes answers that waited for the end of the transaction and stores those with a key.
    fn finish<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>>;
    /// After the commit.
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: SubmitError);
    /// Two halves of a group of at least two.
    fn split(self: Box<Self>) -> (Box<dyn AnyGroup>, Box<dyn AnyGroup>);
}

struct Group<C: Command> {
    service: Arc<C::Service>,
    jobs: Vec<Job<C>>,
    states: Vec<JobState>,
}

enum JobState {
    Settled(Reply),
    Open(Outcome),
    /// Repeats the key of an earlier job of this group.
    SameAs(usize),
    Stale,
}

impl<C: Command> Group<C> {
    /// Looks the keys up: what was answered before is replayed, the rest is handled.
    async fn claim_keys(&self, work: &mut Work) -> Result<Vec<Option<JobState>>, Fault> {
        let mut first_with: HashMap<(Uuid, &str), usize> = HashMap::new();
        let mut states = Vec::with_capacity(self.jobs.len());
        let mut asked: Vec<(usize, &IdempotencyKey)> = Vec::new();
        for (index, job) in self.jobs.iter().enumerate() {
            states.push(None);
            let Some(key) = &job.key else { continue };
            if let Some(&earlier) = first_with.get(&(key.scope, key.key.as_str())) {
                let same = self.jobs[earlier].key.as_ref().is_some_and(|first| first.request_hash == key.request_hash);
                states[index] =
                    Some(if same { JobState::SameAs(earlier) } else { settled_refusal(Code::IdempotencyKeyMismatch, job.trace) });
                continue;
            }
            first_with.insert((key.scope, key.key.as_str()), index);
            asked.push((index, key));
        }
        let keys: Vec<&IdempotencyKey> = asked.iter().map(|(_, key)| *key).collect();
        let claims = idempotency::claim_all(&mut work.tx, self.service.name(), C::OPERATION, &keys).await?;
        for ((index, _), claim) in asked.into_iter().zip(claims) {
            let trace = self.jobs[index].trace;
            states[index] = match claim {
                Claim::Fresh => None,
                Claim::Answered(answer) => Some(JobState::Settled(Reply::Answer(answer))),
                Claim::OtherRequest => Some(settled_refusal(Code::IdempotencyKeyMismatch, trace)),
                Claim::Running => Some(settled_refusal(Code::IdempotencyInProgress, trace)),
            };
        }
        Ok(states)
    }

    /// The answers that depend on what followed in the transaction, in order.
    async fn resolve(&self, work: &mut Work) -> Result<Vec<Option<Answer>>, Fault> {
        let jobs = self.jobs.iter().zip(&self.states);
        let later: Vec<Later<'_, C>> = jobs
            .filter_map(|(job, state)| match state {
                JobState::Open(Outcome::Later(id)) => Some(Later { command: &job.command, key: job.key.as_ref(), id: *id }),
                _ => None,
            })
            .collect();
        if later.is_empty() {
            return Ok(Vec::new());
        }
        let answers = C::resolve(&self.service, work, &later).await?;
        match answers.len() == later.len() {
            true => Ok(answers),
            false => Err(Fault::Bug(format!("{}: {} answers for {} commands", C::OPERATION, answers.len(), later.len()))),
        }
    }
}

fn settled_refusal(code: Code, trace: TraceId) -> JobState {
    JobState::Settled(Reply::Answer(with_trace(Answer::refusal(&code.into()), trace)))
}

/// Problems carry the trace id of the request they answer.
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
        self.jobs.len()
    }

    fn run<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut states = self.claim_keys(work).await?;
            let commands: Vec<&C> =
                self.jobs.iter().zip(&states).filter(|(_, state)| state.is_none()).map(|(job, _)| &job.command).collect();
            if !commands.is_empty() {
                let expected = commands.len();
                let outcomes = C::handle(&self.service, work, &commands).await?;
                if outcomes.len() != expected {
                    return Err(Fault::Bug(format!("{}: {} outcomes for {expected} commands", C::OPERATION, outcomes.len())));
                }
                let mut outcomes = outcomes.into_iter();
                for state in states.iter_mut().filter(|state| state.is_none()) {
                    *state = outcomes.next().map(JobState::Open);
                }
            }
            self.states = states.into_iter().flatten().collect();
            Ok(())
        })
    }

    fn finish<'a>(&'a mut self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let mut later = self.resolve(work).await?.into_iter();
            let mut settled: Vec<usize> = Vec::new();
            for (index, (job, state)) in self.jobs.iter().zip(&mut self.states).enumerate() {
                let JobState::Open(outcome) = state else { continue };
                let reply = match outcome {
                    Outcome::Answer(answer) => Reply::Answer(with_trace(answer.clone(), job.trace)),
                    Outcome::Later(id) => match later.next().flatten() {
                        Some(answer) => Reply::Answer(with_trace(answer, job.trace)),
                        None => Reply::Pending(*id),
                    },
                    Outcome::Stale => {
                        *state = JobState::Stale;
                        continue;
                    }
                };
                *state = JobState::Settled(reply);
                settled.push(index);
            }
            let answers: Vec<(&IdempotencyKey, Option<&Answer>)> = settled.into_iter().filter_map(|index| self.stored(index)).collect();
            Ok(idempotency::store(&mut work.tx, self.service.name(), C::OPERATION, &answers, work.now).await?)
        })
    }

    fn answer(self: Box<Self>) {
        let group = *self;
        let replies: Vec<Result<Reply, SubmitError>> = (0..group.jobs.len()).map(|index| group.reply(index)).collect();
        for (job, reply) in group.jobs.into_iter().zip(replies) {
            // A caller that went away has no use for its answer; the effect stands.
            let _ = job.reply.send(reply);
        }
    }

    fn fail(self: Box<Self>, error: SubmitError) {
        for job in self.jobs {
            let _ = job.reply.send(Err(error.clone()));
        }
    }

    fn split(mut self: Box<Self>) -> (Box<dyn AnyGroup>, Box<dyn AnyGroup>) {
        let rest = self.jobs.split_off(self.jobs.len() / 2);
        let service = Arc::clone(&self.service);
        (self, Box::new(Group::<C> { service, jobs: rest, states: Vec::new() }))
    }
}

impl<C: Command> Group<C> {
    /// What is kept with the key of a command, if it has one.
    fn stored(&self, index: usize) -> Option<(&IdempotencyKey, Option<&Answer>)> {
        let answer = match self.states.get(index)? {
            JobState::Settled(Reply::Answer(answer)) => Some(answer),
            _ => None,
        };
        Some((self.jobs[index].key.as_ref()?, answer))
    }

    fn reply(&self, index: usize) -> Result<Reply, SubmitError> {
        match self.states.get(index) {
            Some(JobState::Settled(reply)) => Ok(reply.clone()),
            Some(JobState::SameAs(earlier)) => Ok(match self.reply(*earlier)? {
                Reply::Answer(answer) => Reply::Answer(Answer { replayed: true, ..answer }),
                Reply::Pending(id) => Reply::Pending(id),
            }),
            Some(JobState::Stale) => Err(SubmitError::Stale),
            Some(JobState::Open(_)) | None => Ok(Reply::Answer(Answer::refusal(&Code::Internal.into()))),
        }
    }
}
