//! The half of a lock that is in the database: the highest fencing number that has written, by name, in `<service>_fences`.
//!
//! Checked in the transaction that writes, so a holder whose lock was given to somebody else changes nothing (F16). The check also locks
//! the name's row until the commit: of two holders one after the other is decided here, whatever either believes.

use crate::{
    Fault,
    db::{DbError, Tx, params},
};

/// Lets the transaction go on if nobody with a higher number has written under this name. The same number may write any number of times.
pub async fn check(tx: &mut Tx, service: &str, name: &str, fence: i64) -> Result<(), Fault> {
    let sql = format!(
        "insert into {service}_fences (name, fence) values ($1,$2) \
         on conflict (name) do update set fence=excluded.fence where {service}_fences.fence <= excluded.fence"
    );
    if tx.execute(&sql, &params![name, fence]).await? == 0 {
        return Err(Fault::Fenced(format!("{name}: somebody came after number {fence}")));
    }
    Ok(())
}

/// The highest number that has written; 0 if none has. The floor for the next holder's, see [`Lock::above`](super::lock::Lock::above).
pub async fn last(tx: &mut Tx, service: &str, name: &str) -> Result<i64, DbError> {
    let sql = format!("select fence from {service}_fences where name=$1");
    let found: Option<(i64,)> = tx.query_opt(&sql, &params![name]).await?;
    Ok(found.map_or(0, |(fence,)| fence))
}
