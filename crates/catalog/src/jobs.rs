//! Periodic work of the catalogue: summaries of products that an earlier binary wrote, which does not know them.

use crate::{Catalog, model::Product, store};
use kit::{
    Answer, Command, Fault, Outcome, Reply, Work,
    batch::SubmitError,
    jobs::{Job, Pass},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Lists show changes by an earlier binary after this time. It runs beside this one only during an upgrade.
const SUMMARIZE_EVERY: Duration = Duration::from_secs(5);
/// Products per pass: some milliseconds, during which other changes of the catalogue wait.
const MAX_SUMMARIZED: u32 = 500;

/// Statuses of a pass: finished, or to be continued at once.
const DONE: u16 = 204;
const MORE: u16 = 202;

pub fn all(catalog: &Arc<Catalog>) -> Vec<Job> {
    let catalog = Arc::clone(catalog);
    vec![Job::new("catalog.summarize", SUMMARIZE_EVERY, move || {
        let catalog = Arc::clone(&catalog);
        async move { summarize(&catalog).await }
    })]
}

async fn summarize(catalog: &Arc<Catalog>) -> Result<Pass, SubmitError> {
    let reply = catalog.kit.batch.submit(catalog, SummarizeProducts, None, Uuid::nil()).await?;
    Ok(if matches!(reply, Reply::Answer(answer) if answer.status == MORE) { Pass::More } else { Pass::Done })
}

struct SummarizeProducts;

impl Command for SummarizeProducts {
    type Service = Catalog;
    const OPERATION: &'static str = "catalog.summarize";

    async fn handle<'a>(catalog: &'a Catalog, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let ids = store::unsummarized(&mut work.tx, MAX_SUMMARIZED).await?;
        let status = if ids.len() == MAX_SUMMARIZED as usize { MORE } else { DONE };
        let products = store::lock_products(&mut work.tx, ids).await?;
        let products: Vec<&Product> = products.values().collect();
        store::update_products(&mut work.tx, &products).await?;
        work.after_commit(catalog.cache.invalidation(products.into_iter()));
        Ok(commands.iter().map(|_| Answer::empty(status).into()).collect())
    }
}
