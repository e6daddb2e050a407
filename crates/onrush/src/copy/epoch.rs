//! New numbering for streams whose partitions are not those they had.

use super::CopyError;
use contracts::Timestamp;
use kit::{Tx, db::params};

/// The epoch a service's stream is in; 0 if it has none.
pub async fn epoch(tx: &mut Tx, service: &str) -> Result<i64, CopyError> {
    let (epoch,): (i64,) = tx.query_one(&format!("select coalesce(max(epoch), 0) from {service}_stream"), &[]).await?;
    Ok(epoch)
}

/// Begins a new epoch: numbers start at 1 in each of its partitions, and its readers have read nothing. What was written before stays as
/// history, and must have been read: nobody reads it again.
pub async fn begin_epoch(tx: &mut Tx, service: &str, partitions: i64, now: Timestamp) -> Result<(), CopyError> {
    let next = epoch(tx, service).await? + 1;
    let sql = format!("insert into {service}_stream (epoch, started_at, partitions) values ($1,$2,$3)");
    tx.execute(&sql, &params![next, now, partitions]).await?;
    let sql = format!("insert into {service}_heads (epoch, partition, seq) values ($1,$2,0)");
    tx.execute_many(&sql, (0..partitions).map(|partition| params![next, partition])).await?;
    Ok(())
}
