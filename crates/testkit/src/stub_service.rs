//! Stub of a service that is not part of a test.

use contracts::{Kind, Message, calls::Call};
use futures::future::{BoxFuture, ready};
use kit::{
    batch::{Answer, Command, Outcome},
    engine::{Envelope, Fault, Service, Work},
    links::CallHandlers,
    module::{Kit, Module},
};
use std::sync::Arc;
use uuid::Uuid;

type OnMessage = dyn Fn(&mut Work, &Envelope) -> Result<(), Fault> + Send + Sync;
type OnFlush = dyn Fn(&mut Work) -> Result<(), Fault> + Send + Sync;
type RegisterCall = dyn Fn(&mut CallHandlers) + Send + Sync;

/// Stands in for a service that is not part of a test. It owns only a stream, into which the test writes. It reacts to messages and calls
/// as the test says.
pub struct StubService {
    kit: Kit,
    name: &'static str,
    reads: &'static [Kind],
    on_message: Box<OnMessage>,
    on_flush: Box<OnFlush>,
    calls: Vec<Box<RegisterCall>>,
}

impl StubService {
    pub fn new(kit: &Kit, name: &'static str) -> StubService {
        StubService {
            kit: kit.clone(),
            name,
            reads: &[],
            on_message: Box::new(|_, _| Ok(())),
            on_flush: Box::new(|_| Ok(())),
            calls: Vec::new(),
        }
    }

    /// Sets the kinds of messages that it acts on.
    #[must_use]
    pub fn reads(self, reads: &'static [Kind]) -> StubService {
        StubService { reads, ..self }
    }

    /// Sets its reaction to a message.
    #[must_use]
    pub fn on_message(self, react: impl Fn(&mut Work, &Envelope) -> Result<(), Fault> + Send + Sync + 'static) -> StubService {
        StubService { on_message: Box::new(react), ..self }
    }

    /// Runs at the end of each transaction.
    #[must_use]
    pub fn on_flush(self, react: impl Fn(&mut Work) -> Result<(), Fault> + Send + Sync + 'static) -> StubService {
        StubService { on_flush: Box::new(react), ..self }
    }

    /// Adds the answer to a call. `Err`: the call fails for this reason.
    #[must_use]
    pub fn answers<C: Call>(mut self, answer: impl Fn(C) -> Result<C::Reply, String> + Send + Sync + 'static) -> StubService {
        let answer = Arc::new(answer);
        self.calls.push(Box::new(move |handlers| {
            let answer = Arc::clone(&answer);
            handlers.register::<C, _, _, _>(move |call| ready(answer(call)));
        }));
        self
    }
}

impl Service for StubService {
    fn name(&self) -> &'static str {
        self.name
    }
    fn reads(&self) -> &'static [Kind] {
        self.reads
    }
    fn consume<'a>(&'a self, work: &'a mut Work, messages: &'a [&'a Envelope]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(ready(messages.iter().try_for_each(|envelope| (self.on_message)(work, envelope))))
    }
    fn flush<'a>(&'a self, work: &'a mut Work) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(ready((self.on_flush)(work)))
    }
}

impl Module for StubService {
    fn kit(&self) -> &Kit {
        &self.kit
    }
    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        self.calls.iter().for_each(|register| register(handlers));
    }
}

pub(super) struct Emit {
    pub key: Uuid,
    pub messages: Vec<Message>,
}

impl Command for Emit {
    type Service = StubService;
    const OPERATION: &'static str = "stub_service.emit";

    async fn handle<'a>(_: &'a StubService, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        for command in commands {
            for message in &command.messages {
                work.emit(command.key, message.clone())?;
            }
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
