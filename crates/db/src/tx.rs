//! The calls of all stores, dispatched to the present database. Contains no SQL except transaction control.

use super::{
    DbError, FromRow, Param, Row,
    postgres::{ParamRows, PgSession},
    sqlite::{self, HeavySession, copied},
};
use futures::future::BoxFuture;
use rusqlite::Connection;
use std::{future::ready, time::Duration};

/// A connection and the transaction on it. Every store function takes `&mut Tx` first.
#[derive(Debug)]
pub struct Tx(TxBackend);

#[derive(Debug)]
enum TxBackend {
    Sqlite(Connection),
    /// A connection to SQLite on a thread of its own, which only reads.
    Heavy(HeavySession),
    Postgres(Box<PgSession>),
}

fn only_reads() -> DbError {
    DbError::Io("a heavy reader only reads".into())
}

impl Tx {
    pub(super) fn of_sqlite(connection: Connection) -> Self {
        Self(TxBackend::Sqlite(connection))
    }

    pub(super) fn of_heavy(session: HeavySession) -> Self {
        Self(TxBackend::Heavy(session))
    }

    pub(super) fn of_postgres(session: PgSession) -> Self {
        Self(TxBackend::Postgres(Box::new(session)))
    }

    pub(super) fn into_sqlite(self) -> Option<Connection> {
        match self.0 {
            TxBackend::Sqlite(connection) => Some(connection),
            TxBackend::Heavy(_) | TxBackend::Postgres(_) => None,
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.0, TxBackend::Postgres(_))
    }

    /// The raw SQLite connection, for features without a portable form: pragmas, attach, backup. `None` on PostgreSQL, and for a heavy reader.
    pub fn sqlite(&mut self) -> Option<&mut Connection> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => Some(connection),
            TxBackend::Heavy(_) | TxBackend::Postgres(_) => None,
        }
    }

    pub(super) fn session(&mut self) -> Option<&mut PgSession> {
        match &mut self.0 {
            TxBackend::Sqlite(_) | TxBackend::Heavy(_) => None,
            TxBackend::Postgres(session) => Some(session),
        }
    }

    /// Reconnects if the idle connection was lost and no transaction is open. [`Tx::begin`] and single statements do this by themselves.
    pub async fn reconnect_if_lost(&mut self) -> Result<(), DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(_) | TxBackend::Heavy(_) => Ok(()),
            TxBackend::Postgres(session) => session.ensure_connected().await,
        }
    }

    /// Starts a write transaction. Reconnects if the connection was lost since the last one. On SQLite it is IMMEDIATE, because a
    /// deferred transaction that reads first can fail at its first write. On PostgreSQL it is READ COMMITTED.
    pub async fn begin(&mut self) -> Result<(), DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => sqlite::execute(connection, "begin immediate", &[]).map(|_| ()),
            TxBackend::Heavy(_) => Err(only_reads()),
            TxBackend::Postgres(session) => session.begin().await,
        }
    }

    /// Sets the lock timeout of later transactions. A longer wait ends in [`DbError::Locked`]. On SQLite there are no other lock holders.
    pub fn limit_lock_waits(&mut self, most: Duration) {
        if let TxBackend::Postgres(session) = &mut self.0 {
            session.limit_lock_waits(most);
        }
    }

    /// Makes the transaction durable. If the connection breaks meanwhile, asks for the outcome for up to ten seconds.
    /// [`DbError::Closed`]: the transaction was rolled back. [`DbError::Unknown`]: the outcome could not be found out.
    pub async fn commit(&mut self) -> Result<(), DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => sqlite::execute(connection, "commit", &[]).map(|_| ()),
            TxBackend::Heavy(_) => Err(only_reads()),
            TxBackend::Postgres(session) => session.commit().await,
        }
    }

    /// Rolls the transaction back. Without a transaction it does nothing.
    pub async fn rollback(&mut self) -> Result<(), DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) if connection.is_autocommit() => Ok(()),
            TxBackend::Sqlite(connection) => sqlite::execute(connection, "rollback", &[]).map(|_| ()),
            TxBackend::Heavy(_) => Ok(()),
            TxBackend::Postgres(session) => session.rollback().await,
        }
    }

    /// Runs several statements without parameters, separated by semicolons. On PostgreSQL they are atomic.
    pub async fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            TxBackend::Heavy(_) => Err(only_reads()),
            TxBackend::Postgres(session) => session.batch(sql).await,
        }
    }

    /// Runs a statement and returns the number of changed rows.
    pub async fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => sqlite::execute(connection, sql, params),
            TxBackend::Heavy(_) => Err(only_reads()),
            TxBackend::Postgres(session) => session.execute(sql, params).await,
        }
    }

    /// Runs one statement for many rows of parameters, in order. Returns the number of changed rows for each. Over a network the rows
    /// travel together. On SQLite a prepared statement for each row is as fast. The rows are consumed before the first await, so they may
    /// borrow values that cannot live across one.
    pub fn execute_many<'p, const N: usize>(
        &mut self,
        sql: &str,
        rows: impl IntoIterator<Item = [Param<'p>; N]>,
    ) -> BoxFuture<'_, Result<Vec<u64>, DbError>> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => Box::pin(ready(sqlite::execute_each(connection, sql, rows))),
            TxBackend::Heavy(_) => Box::pin(ready(Err(only_reads()))),
            TxBackend::Postgres(session) => {
                let (sql, rows) = (sql.to_owned(), ParamRows::copied(rows));
                Box::pin(async move { session.execute_many(&sql, &rows).await })
            }
        }
    }

    /// Returns all rows found.
    pub async fn query<T: FromRow>(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<T>, DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => sqlite::query(connection, sql, params),
            TxBackend::Heavy(session) => {
                let rows = session.query(sql, params).await?;
                rows.iter().map(|row| T::from_row(&Row::copied(row))).collect()
            }
            TxBackend::Postgres(session) => {
                let rows = session.query(sql, params).await?;
                rows.iter().map(|row| T::from_row(&Row::postgres(row))).collect()
            }
        }
    }

    /// Runs one query for many rows of parameters, in order. Returns all rows found, one result after the other.
    pub fn query_many<'p, T: FromRow + Send + 'static, const N: usize>(
        &mut self,
        sql: &str,
        rows: impl IntoIterator<Item = [Param<'p>; N]>,
    ) -> BoxFuture<'_, Result<Vec<T>, DbError>> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => Box::pin(ready(sqlite::query_each(connection, sql, rows))),
            TxBackend::Heavy(session) => {
                let (sql, rows) = (sql.to_owned(), rows.into_iter().map(|row| copied(&row)).collect());
                Box::pin(async move {
                    let found = session.query_each(&sql, rows).await?;
                    found.iter().map(|row| T::from_row(&Row::copied(row))).collect()
                })
            }
            TxBackend::Postgres(session) => {
                let (sql, rows) = (sql.to_owned(), ParamRows::copied(rows));
                Box::pin(async move {
                    let found = session.query_many(&sql, &rows).await?;
                    found.iter().map(|row| T::from_row(&Row::postgres(row))).collect()
                })
            }
        }
    }

    /// Returns the first row, if there is one.
    pub async fn query_opt<T: FromRow>(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Option<T>, DbError> {
        match &mut self.0 {
            TxBackend::Sqlite(connection) => sqlite::query_opt(connection, sql, params),
            TxBackend::Heavy(session) => {
                let rows = session.query(sql, params).await?;
                rows.first().map(|row| T::from_row(&Row::copied(row))).transpose()
            }
            TxBackend::Postgres(session) => {
                let rows = session.query(sql, params).await?;
                rows.first().map(|row| T::from_row(&Row::postgres(row))).transpose()
            }
        }
    }

    /// Returns the only row of a query that always has one, such as a count.
    pub async fn query_one<T: FromRow>(&mut self, sql: &str, params: &[Param<'_>]) -> Result<T, DbError> {
        let none = if self.is_postgres() {
            DbError::Postgres("a query that always has a row had none".into())
        } else {
            DbError::Sqlite(rusqlite::Error::QueryReturnedNoRows)
        };
        self.query_opt(sql, params).await?.ok_or(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;

    #[tokio::test]
    async fn parameters_go_by_number() {
        let mut tx = Tx::of_sqlite(Connection::open_in_memory().expect("an in-memory database opens"));
        tx.execute("create table kit_pairs (id BIGINT primary key, value BIGINT not null)", &[]).await.expect("the table and row are new");
        tx.execute("insert into kit_pairs (id, value) values ($1,$2)", &params![7_i64, 1_i64]).await.expect("the table and row are new");
        let changed = tx.execute("update kit_pairs set value=$2 where id=$1 and value<$2", &params![7_i64, 5_i64]).await;
        assert_eq!(changed.expect("it runs"), 1);
        let found: Vec<(i64, i64)> =
            tx.query("select value, $2 from kit_pairs where id=$1", &params![7_i64, 9_i64]).await.expect("it runs");
        assert_eq!(found, [(5, 9)]);
    }
}
