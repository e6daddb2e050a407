//! SQL over `wallet_holds`.

use crate::model::{Ledger, WalletHold, WalletHoldState};
use contracts::{Code, OrderId};
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
    rows::Changed,
};
use std::collections::BTreeSet;

impl FromRow for WalletHold {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let state: String = row.get(3)?;
        let state = WalletHoldState::parse(&state).ok_or_else(|| DbError::Column { index: 3, reason: format!("unknown state {state}") })?;
        let refused: Option<String> = row.get(4)?;
        Ok(Self {
            order_id: row.get(0)?,
            member_id: row.get(1)?,
            amount: row.get(2)?,
            state,
            refused: refused.as_deref().and_then(Code::from_slug),
            expires_at: row.get(5)?,
            at: row.get(6)?,
        })
    }
}

pub async fn load_holds(tx: &mut Tx, ledger: &mut Ledger, orders: &BTreeSet<OrderId>) -> Result<(), DbError> {
    let missing = ledger.holds.missing(orders.iter().copied());
    if missing.is_empty() {
        return Ok(());
    }
    let sql = "select order_id, member_id, amount, state, refused, expires_at, at from wallet_holds where order_id=$1 for update";
    let found: Vec<WalletHold> = tx.query_many(sql, missing.iter().map(|order_id| params![*order_id])).await?;
    ledger.holds.add_found(missing, found.into_iter().map(|hold| (hold.order_id, hold)));
    Ok(())
}

pub async fn save_holds(tx: &mut Tx, holds: &Changed<'_, WalletHold>) -> Result<(), DbError> {
    let sql = "insert into wallet_holds (order_id, member_id, amount, state, refused, expires_at, at) values ($1,$2,$3,$4,$5,$6,$7)";
    tx.execute_many(sql, holds.new.iter().map(|hold| row(hold))).await?;
    let sql = "update wallet_holds set member_id=$2, amount=$3, state=$4, refused=$5, expires_at=$6, at=$7 where order_id=$1";
    tx.execute_many(sql, holds.existing.iter().map(|hold| row(hold))).await?;
    Ok(())
}

fn row(hold: &WalletHold) -> [kit::Param<'_>; 7] {
    let refused = hold.refused.map(Code::slug);
    params![hold.order_id, hold.member_id, hold.amount, hold.state.as_str(), refused, hold.expires_at, hold.at]
}
