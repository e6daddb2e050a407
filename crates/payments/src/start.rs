//! Runs once before the first request: checks the settings, and starts the worker that calls the provider.

use crate::{Payments, jobs};
use kit::{Fault, tasks};
use std::sync::Arc;

pub async fn start(payments: Arc<Payments>) -> Result<(), Fault> {
    if payments.settings.test_provider && payments.provider.is_none() {
        return Err(Fault::Setting(
            "test_provider: its ledger needs a file, and there is no database file to keep it beside: set book".into(),
        ));
    }
    let task_receiver = payments.task_receiver.lock().take();
    if let Some(task_receiver) = task_receiver {
        tasks::spawn_vital("payments.worker", jobs::run_provider_tasks(Arc::downgrade(&payments), task_receiver));
    }
    Ok(())
}
