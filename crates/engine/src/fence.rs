//! The database's half of a lock in Redis: the highest fencing number that has written under each name, in `<service>_fences`.
//!
//! The writing transaction checks the number. A holder whose lock passed to another holder therefore changes nothing (F16). The check
//! also locks the name's row until the commit. So the database decides between two holders that both believe they hold the lock.

use super::fault::Fault;
use db::{DbError, Tx, params};

/// Checks that no higher number has written under this name. The same number may write any number of times.
///
/// # Errors
/// [`Fault::Fenced`]: a later holder has written.
pub async fn check(tx: &mut Tx, service: &str, name: &str, fence: i64) -> Result<(), Fault> {
    let sql = format!(
        "insert into {service}_fences (name, fence) values ($1,$2) \
         on conflict (name) do update set fence=excluded.fence where {service}_fences.fence <= excluded.fence"
    );
    if tx.execute(&sql, &params![name, fence]).await? == 0 {
        return Err(Fault::Fenced(format!("{name}: a holder after number {fence} has written")));
    }
    Ok(())
}

/// The highest number that has written, or 0. It is the floor for the next holder's number, see
/// `cache::redis::lock::Lock::above`.
pub async fn last(tx: &mut Tx, service: &str, name: &str) -> Result<i64, DbError> {
    let sql = format!("select fence from {service}_fences where name=$1");
    let found: Option<(i64,)> = tx.query_opt(&sql, &params![name]).await?;
    Ok(found.map_or(0, |(fence,)| fence))
}
