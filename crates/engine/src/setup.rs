//! The fixed parts of an engine: its services, its settings, and the faults that tests inject.

use super::{fault::Fault, retries::DEAD_LETTER_AFTER, service::Service, work::Work};
use runtime::failpoints::Faults;
use std::{sync::Arc, time::Duration};

/// The services of one engine, shared by its parts.
pub(super) type Services = Arc<[Arc<dyn Service>]>;

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Dispatches messages to their readers inside the writing transaction. Off: each hop is a transaction of its own. Has an effect only
    /// where a sole writer numbers the streams.
    pub fold: bool,
    /// Most commands executed in one transaction, which bounds the time a caller waits for others.
    pub max_batch: usize,
    /// Time over which a message must fail before it becomes a dead letter. Zero: after its first tries, for tests.
    pub dead_letter_after: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { fold: true, max_batch: 512, dead_letter_after: DEAD_LETTER_AFTER }
    }
}

pub(super) struct EngineSetup {
    pub services: Services,
    pub settings: EngineSettings,
    pub faults: Faults,
}

impl EngineSetup {
    /// Lets services write back the rows they kept in memory during the transaction.
    pub async fn flush_services(&self, work: &mut Work) -> Result<(), Fault> {
        for service in self.services.iter() {
            work.act_as(service.name());
            service.flush(work).await?;
        }
        Ok(())
    }
}
