//! SQL over `wallet_transactions` and `wallet_entries`.

use crate::model::{Cause, CauseOutcome, Ledger, LedgerEntry, LedgerTransaction, transaction_id};
use contracts::{Code, Won};
use kit::{DbError, Tx, db::params};
use std::collections::HashMap;
use uuid::Uuid;

/// Loads the outcomes of these causes.
pub async fn load_causes(tx: &mut Tx, ledger: &mut Ledger, causes: &[(Cause, Uuid)]) -> Result<(), DbError> {
    let missing: Vec<(Cause, Uuid)> = causes.iter().copied().filter(|(cause, reference)| !ledger.has_cause(*cause, *reference)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let sql = "select id, amount, refused from wallet_transactions where id=$1";
    let ids = missing.iter().map(|(cause, reference)| params![transaction_id(*cause, *reference)]);
    let found: Vec<(Uuid, Won, Option<String>)> = tx.query_many(sql, ids).await?;
    let found: HashMap<Uuid, CauseOutcome> = found
        .into_iter()
        .map(|(id, amount, refused)| {
            // An unknown reason, from another version, is still a refusal.
            let refused = refused.map(|slug| Code::from_slug(&slug).unwrap_or(Code::PaymentFailed));
            (id, CauseOutcome { amount, refused })
        })
        .collect();
    for (cause, reference) in missing {
        ledger.load_cause(cause, reference, found.get(&transaction_id(cause, reference)).copied());
    }
    Ok(())
}

/// Appends to the ledger. Rows are never changed or deleted (I-L4).
pub async fn append(tx: &mut Tx, transactions: &[LedgerTransaction], entries: &[LedgerEntry]) -> Result<(), DbError> {
    let sql = "insert into wallet_transactions (id, kind, ref, order_id, amount, refused, reason, granted_by, at) \
               values ($1,$2,$3,$4,$5,$6,$7,$8,$9)";
    let rows = transactions.iter().map(|made| {
        let refused = made.refused.map(Code::slug);
        let reason = made.note.reason.as_deref();
        params![made.id, made.cause.as_str(), made.reference, made.order_id, made.amount, refused, reason, made.note.granted_by, made.at]
    });
    tx.execute_many(sql, rows).await?;
    let sql = "insert into wallet_entries (tx_id, owner_id, kind, n, amount, balance_after, at, hash, previous_tx) \
               values ($1,$2,$3,$4,$5,$6,$7,$8,$9)";
    let rows = entries.iter().map(|entry| {
        let (owner, kind) = (entry.account.owner, entry.account.kind.as_str());
        params![entry.tx_id, owner, kind, entry.n, entry.amount, entry.balance_after, entry.at, &entry.hash, entry.previous_tx]
    });
    tx.execute_many(sql, rows).await?;
    Ok(())
}
