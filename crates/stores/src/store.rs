//! All SQL of stores. Loads and saves; decides nothing.
//!
//! Several processes may write. They add rows, and take sellers away. The primary key refuses a second insert of the mall's own store.

use crate::model::Store;
use contracts::{MemberId, StoreId};
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
};

impl FromRow for Store {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Store { id: row.get(0)?, name: row.get(1)?, seller_id: row.get(2)?, created_at: row.get(3)? })
    }
}

pub async fn insert<'s>(tx: &mut Tx, stores: impl IntoIterator<Item = &'s Store>) -> Result<(), DbError> {
    let sql = "insert into stores_stores (id, name, seller_id, created_at) values ($1,$2,$3,$4)";
    let rows = stores.into_iter().map(|store| params![store.id, &store.name, store.seller_id, store.created_at]);
    tx.execute_many(sql, rows).await.map(|_| ())
}

/// True if the store exists, closed stores included.
pub async fn exists(tx: &mut Tx, id: StoreId) -> Result<bool, DbError> {
    let found: Option<(StoreId,)> = tx.query_opt("select id from stores_stores where id=$1", &params![id]).await?;
    Ok(found.is_some())
}

/// Every open store, oldest first.
pub async fn all(tx: &mut Tx) -> Result<Vec<Store>, DbError> {
    tx.query("select id, name, seller_id, created_at from stores_stores where deleted_at is null order by id", &[]).await
}

/// Takes the stores of these sellers over for the mall. Returns their number.
pub async fn take_over(tx: &mut Tx, sellers: &[MemberId]) -> Result<u64, DbError> {
    let sql = "update stores_stores set seller_id=null where seller_id=$1";
    let changed = tx.execute_many(sql, sellers.iter().map(|seller_id| params![*seller_id])).await?;
    Ok(changed.into_iter().sum())
}
