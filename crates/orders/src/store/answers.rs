//! SQL of open answers: answers that wait for their order to come to rest. The order's row lock guards them.

use contracts::OrderId;
use kit::{DbError, Row, Tx, db::FromRow, params};
use uuid::Uuid;

/// An answer that waits for its order to come to rest. `operation`, `scope` and `key` identify the idempotency key it completes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAnswer {
    pub order_id: OrderId,
    pub operation: String,
    pub scope: Uuid,
    pub key: String,
    /// Trace id of the request to answer.
    pub trace: Uuid,
}

impl FromRow for OpenAnswer {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(OpenAnswer { order_id: row.get(0)?, operation: row.get(1)?, scope: row.get(2)?, key: row.get(3)?, trace: row.get(4)? })
    }
}

pub async fn add_open_answers(tx: &mut Tx, open: &[OpenAnswer]) -> Result<(), DbError> {
    let sql = "insert into orders_open_answers (order_id, operation, scope, key, trace) values ($1,$2,$3,$4,$5)";
    tx.execute_many(sql, open.iter().map(|open| params![open.order_id, &open.operation, open.scope, &open.key, open.trace])).await?;
    Ok(())
}

pub async fn open_answers(tx: &mut Tx, orders: &[OrderId]) -> Result<Vec<OpenAnswer>, DbError> {
    let sql = "select order_id, operation, scope, key, trace from orders_open_answers where order_id=$1";
    tx.query_many(sql, orders.iter().map(|id| params![*id])).await
}

pub async fn close_answers(tx: &mut Tx, open: &[&OpenAnswer]) -> Result<(), DbError> {
    let sql = "delete from orders_open_answers where order_id=$1 and operation=$2 and scope=$3 and key=$4";
    tx.execute_many(sql, open.iter().map(|open| params![open.order_id, &open.operation, open.scope, &open.key])).await?;
    Ok(())
}
