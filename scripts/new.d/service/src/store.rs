//! All SQL of @service@. Loads and saves; decides nothing.

use crate::model::@Service@Entry;
use kit::{
    DbError, Row, Tx,
    db::{FromRow, params},
};
use uuid::Uuid;

impl FromRow for @Service@Entry {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(@Service@Entry { id: row.get(0)?, member_id: row.get(1)?, name: row.get(2)?, created_at: row.get(3)? })
    }
}

pub async fn insert(tx: &mut Tx, entries: &[@Service@Entry]) -> Result<(), DbError> {
    let sql = "insert into @service@_entries (id, member_id, name, created_at) values ($1,$2,$3,$4)";
    let rows = entries.iter().map(|entry| params![entry.id, entry.member_id, &entry.name, entry.created_at]);
    tx.execute_many(sql, rows).await.map(|_| ())
}

pub async fn find(tx: &mut Tx, id: Uuid) -> Result<Option<@Service@Entry>, DbError> {
    tx.query_opt("select id, member_id, name, created_at from @service@_entries where id=$1", &params![id]).await
}
