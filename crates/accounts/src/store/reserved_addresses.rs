//! SQL over `accounts_reserved_addresses`.

use crate::model::SecretDigest;
use contracts::Timestamp;
use kit::{DbError, Tx, db::params};
use std::collections::HashSet;

/// The reserved ones among these addresses.
pub async fn among(tx: &mut Tx, hashes: &[SecretDigest]) -> Result<HashSet<SecretDigest>, DbError> {
    let sql = "select hash from accounts_reserved_addresses where hash=$1";
    let found: Vec<(SecretDigest,)> = tx.query_many(sql, hashes.iter().map(|hash| params![hash])).await?;
    Ok(found.into_iter().map(|(hash,)| hash).collect())
}

pub async fn reserve(tx: &mut Tx, hashes: &[SecretDigest], now: Timestamp) -> Result<(), DbError> {
    let sql = "insert into accounts_reserved_addresses (hash, at) values ($1,$2) on conflict (hash) do nothing";
    tx.execute_many(sql, hashes.iter().map(|hash| params![hash, now])).await.map(|_| ())
}

pub async fn release(tx: &mut Tx, hashes: &[SecretDigest]) -> Result<(), DbError> {
    tx.execute_many("delete from accounts_reserved_addresses where hash=$1", hashes.iter().map(|hash| params![hash])).await.map(|_| ())
}
