//! Leases: a row that names the one instance responsible for a duty, with an expiry time and a fence that grows with every new holder.
//!
//! The database's clock decides, so that hosts with different clocks agree. A lease saves work and keeps order, but it proves nothing. A
//! transaction that relies on a lease also checks a number of its own: a position, or the sequencer's fence.

use db::{DbError, Tx, params};
use std::time::Duration;
use uuid::Uuid;

/// The database's clock in microseconds. Leases exist on PostgreSQL only, because SQLite has one process.
const NOW: &str = "cast(extract(epoch from clock_timestamp()) * 1000000 as BIGINT)";

/// Lifetime of a lease, and so the time for which a crashed holder blocks the next one.
pub const TTL: Duration = Duration::from_secs(3);

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Acquires or renews a lease and returns its fence. `None`: another holder has it.
pub async fn acquire(tx: &mut Tx, service: &str, name: &str, holder: Uuid) -> Result<Option<i64>, DbError> {
    let sql = format!(
        "insert into {service}_leases (name, holder, fence, until) values ($1,$2,1,{NOW}+$3) on conflict (name) do update set holder=$2, \
         fence=case when {service}_leases.holder=$2 then {service}_leases.fence else {service}_leases.fence+1 end, until={NOW}+$3 \
         where {service}_leases.until<{NOW} or {service}_leases.holder=$2 returning fence"
    );
    let found: Option<(i64,)> = tx.query_opt(&sql, &params![name, holder, micros(TTL)]).await?;
    Ok(found.map(|(fence,)| fence))
}

/// Renews all leases that this holder still has.
pub async fn renew(tx: &mut Tx, service: &str, holder: Uuid) -> Result<(), DbError> {
    let sql = format!("update {service}_leases set until={NOW}+$2 where holder=$1 and until>{NOW}");
    tx.execute(&sql, &params![holder, micros(TTL)]).await?;
    Ok(())
}

/// Releases a lease, so that the next holder need not wait until it expires.
pub async fn release(tx: &mut Tx, service: &str, name: &str, holder: Uuid) -> Result<(), DbError> {
    let sql = format!("update {service}_leases set until=0 where name=$1 and holder=$2");
    tx.execute(&sql, &params![name, holder]).await?;
    Ok(())
}

/// Names and holders of the unexpired leases whose names begin with `prefix`.
pub async fn running(tx: &mut Tx, service: &str, prefix: &str) -> Result<Vec<(String, Uuid)>, DbError> {
    let sql = format!("select name, holder from {service}_leases where until>{NOW} and name like $1 order by name");
    tx.query(&sql, &params![&format!("{prefix}%")]).await
}

/// Deletes leases that expired long ago, because each instance leaves leases under a name of its own.
pub async fn delete_expired(tx: &mut Tx, service: &str, prefix: &str) -> Result<(), DbError> {
    let sql = format!("delete from {service}_leases where name like $1 and until<{NOW}-$2");
    tx.execute(&sql, &params![&format!("{prefix}%"), micros(TTL * 20)]).await?;
    Ok(())
}
