use crate::{
    batch::{Answer, Command, Outcome},
    db::Migration,
    engine::{Fault, Work},
    service::{Kit, Service},
};
use contracts::Message;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

/// Stands in for a service that is not part of a test. It owns only a stream, into which the test writes.
pub struct StubService {
    kit: Kit,
    name: &'static str,
}

impl StubService {
    #[expect(clippy::new_ret_no_self, reason = "a stub is only used as a service")]
    pub fn new(kit: &Kit, name: &'static str) -> Arc<dyn Service> {
        Self::named(kit, name)
    }

    pub(super) fn named(kit: &Kit, name: &'static str) -> Arc<StubService> {
        Arc::new(StubService { kit: kit.clone(), name })
    }
}

impl Service for StubService {
    fn name(&self) -> &'static str {
        self.name
    }
    fn migrations(&self) -> &'static [Migration] {
        &[]
    }
    fn kit(&self) -> &Kit {
        &self.kit
    }
    fn router(self: Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
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
