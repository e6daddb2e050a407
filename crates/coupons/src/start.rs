//! Runs once before the first request: checks the settings, and brings the searched names up to date.

use crate::{Coupons, Strategy, store::definitions};
use contracts::CouponId;
use kit::{Answer, Command, Fault, Outcome, Reply, Work, http::text};
use std::sync::Arc;
use uuid::Uuid;

/// Coupons whose names one transaction compares.
const PAGE: u32 = 1_000;

pub async fn start(coupons: Arc<Coupons>) -> Result<(), Fault> {
    if coupons.settings.strategy == Strategy::Redis && coupons.gate.is_none() {
        return Err(Fault::Setting("claim_strategy: redis needs a Redis; set redis to its URL".into()));
    }
    fold_names(&coupons).await
}

/// Folds the names that an earlier version, or an earlier Unicode, folded differently.
async fn fold_names(coupons: &Arc<Coupons>) -> Result<(), Fault> {
    let mut after: Option<CouponId> = None;
    loop {
        let page = definitions::names(&mut *coupons.kit.db.reader().await?, after, PAGE).await?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        after = Some(*last);
        let outdated = page.into_iter().filter_map(|(id, name, search)| {
            let folded = text::fold(&name);
            (folded != search).then_some((id, name, folded))
        });
        let outdated: Vec<(CouponId, String, String)> = outdated.collect();
        if outdated.is_empty() {
            continue;
        }
        let reply = coupons.kit.batch.submit(coupons, FoldNames { outdated }, None, Uuid::nil()).await;
        if !matches!(reply, Ok(Reply::Answer(_))) {
            return Err(Fault::Bug(format!("the names of coupons were not folded: {reply:?}")));
        }
    }
}

struct FoldNames {
    outdated: Vec<(CouponId, String, String)>,
}

impl Command for FoldNames {
    type Service = Coupons;
    const OPERATION: &'static str = "coupons.fold_names";

    async fn handle<'a>(_: &'a Coupons, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        for command in commands {
            definitions::set_searches(&mut work.tx, &command.outdated).await?;
        }
        Ok(commands.iter().map(|_| Answer::empty(204).into()).collect())
    }
}
