//! Answers to calls of other services. Read-only.

use crate::{Wallet, model::AccountKind, store};
use contracts::{Won, calls::GetCash};
use kit::{DbError, links::CallHandlers};
use std::sync::Arc;

pub fn register(wallet: &Arc<Wallet>, handlers: &mut CallHandlers) {
    handlers.register_for(wallet, cash);
}

async fn cash(wallet: Arc<Wallet>, call: GetCash) -> Result<Won, DbError> {
    let balances = store::balances(&mut *wallet.kit.db.reader().await?, call.member_id).await?;
    Ok(balances.into_iter().find(|(kind, ..)| *kind == AccountKind::Cash).map_or(Won::ZERO, |(_, balance, _)| balance))
}
