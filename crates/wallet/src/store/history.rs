//! Balances and history of accounts, read without a lock.

use crate::model::{AccountKey, AccountKind};
use contracts::{MemberId, OrderId, Timestamp, Won};
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
};
use uuid::Uuid;

/// (kind, balance, held) of a member's accounts. Unused accounts are missing.
pub async fn balances(tx: &mut Tx, member_id: MemberId) -> Result<Vec<(AccountKind, Won, Won)>, DbError> {
    let sql = "select kind, balance, held from wallet_accounts where owner_id=$1";
    let rows: Vec<(String, Won, Won)> = tx.query(sql, &params![member_id]).await?;
    Ok(rows.into_iter().filter_map(|(kind, balance, held)| Some((AccountKind::parse(&kind)?, balance, held))).collect())
}

/// The last transaction of an account, where its history starts. `None`: the account has no entries.
pub async fn last_transaction(tx: &mut Tx, account: AccountKey) -> Result<Option<Uuid>, DbError> {
    let sql = "select last_tx from wallet_accounts where owner_id=$1 and kind=$2";
    let found: Option<(Option<Uuid>,)> = tx.query_opt(sql, &params![account.owner, account.kind.as_str()]).await?;
    Ok(found.and_then(|(last,)| last))
}

/// An entry with its cause.
pub struct EntryRow {
    pub tx_id: Uuid,
    pub cause: String,
    pub amount: Won,
    pub balance_after: Won,
    pub at: Timestamp,
    pub order_id: Option<OrderId>,
    pub reason: Option<String>,
    pub previous_tx: Option<Uuid>,
}

impl FromRow for EntryRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            tx_id: row.get(0)?,
            cause: row.get(1)?,
            amount: row.get(2)?,
            balance_after: row.get(3)?,
            at: row.get(4)?,
            order_id: row.get(5)?,
            reason: row.get(6)?,
            previous_tx: row.get(7)?,
        })
    }
}

/// The entries of an account along its chain, backwards from transaction `from`, at most `limit`.
pub async fn history(tx: &mut Tx, account: AccountKey, from: Uuid, limit: u32) -> Result<Vec<EntryRow>, DbError> {
    let sql = "with recursive chain (tx_id, n, amount, balance_after, at, previous_tx, depth) as ( \
                   select tx_id, n, amount, balance_after, at, previous_tx, 1 from wallet_entries \
                   where tx_id=$1 and owner_id=$2 and kind=$3 \
                   union all \
                   select e.tx_id, e.n, e.amount, e.balance_after, e.at, e.previous_tx, c.depth+1 from chain c \
                   join wallet_entries e on e.tx_id=c.previous_tx and e.owner_id=$2 and e.kind=$3 where c.depth<$4) \
               select c.tx_id, t.kind, c.amount, c.balance_after, c.at, t.order_id, t.reason, c.previous_tx \
               from chain c join wallet_transactions t on t.id=c.tx_id order by c.n desc";
    tx.query(sql, &params![from, account.owner, account.kind.as_str(), limit]).await
}
