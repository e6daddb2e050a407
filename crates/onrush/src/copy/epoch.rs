//! New epochs for streams whose partitions have changed.

use super::CopyError;
use contracts::Timestamp;
use kit::{Tx, db::params};

/// The current epoch of a service's stream. 0: it has none.
pub async fn epoch(tx: &mut Tx, service: &str) -> Result<i64, CopyError> {
    let (epoch,): (i64,) = tx.query_one(&format!("select coalesce(max(epoch), 0) from {service}_stream"), &[]).await?;
    Ok(epoch)
}

/// Begins a new epoch: numbers start at 1 in each partition, and its readers have read nothing yet. Earlier messages stay as history.
/// They must have been read before, because readers never read an older epoch.
pub async fn begin_epoch(tx: &mut Tx, service: &str, partitions: i64, now: Timestamp) -> Result<(), CopyError> {
    let next = epoch(tx, service).await? + 1;
    let sql = format!("insert into {service}_stream (epoch, started_at, partitions) values ($1,$2,$3)");
    tx.execute(&sql, &params![next, now, partitions]).await?;
    let sql = format!("insert into {service}_heads (epoch, partition, seq) values ($1,$2,0)");
    tx.execute_many(&sql, (0..partitions).map(|partition| params![next, partition])).await?;
    Ok(())
}
