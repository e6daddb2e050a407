use super::{DbError, FromRow, Param, Row};
use futures::future::BoxFuture;
use rusqlite::{CachedStatement, Connection, params_from_iter};
use std::{borrow::Cow, future::ready};

/// A connection, and the transaction on it. `&mut Tx` is what every store function takes first.
#[derive(Debug)]
pub struct Tx {
    connection: Connection,
}

impl Tx {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// The raw connection, for what has no portable form: pragmas, attach, backup.
    pub fn sqlite(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Starts a write transaction. IMMEDIATE, because a deferred one that reads first can fail at its first write.
    pub async fn begin(&mut self) -> Result<(), DbError> {
        self.execute("begin immediate", &[]).await.map(|_| ())
    }

    pub async fn commit(&mut self) -> Result<(), DbError> {
        self.execute("commit", &[]).await.map(|_| ())
    }

    pub async fn rollback(&mut self) -> Result<(), DbError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.execute("rollback", &[]).await.map(|_| ())
    }

    /// Runs a statement; the number of rows it changed.
    pub async fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, DbError> {
        Ok(self.statement(sql)?.execute(params_from_iter(params))? as u64)
    }

    /// Runs one statement for many rows of parameters, in order; the numbers of rows changed.
    /// Over a network these travel together; on SQLite a prepared statement per row is as fast.
    /// The rows are consumed before the first await, so they may borrow what could not live across one.
    pub fn execute_many<'p, const N: usize>(
        &mut self,
        sql: &str,
        rows: impl IntoIterator<Item = [Param<'p>; N]>,
    ) -> BoxFuture<'_, Result<Vec<u64>, DbError>> {
        let result = self.execute_each(sql, rows);
        Box::pin(ready(result))
    }

    fn execute_each<'p, const N: usize>(&mut self, sql: &str, rows: impl IntoIterator<Item = [Param<'p>; N]>) -> Result<Vec<u64>, DbError> {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(Vec::new());
        }
        let mut statement = self.statement(sql)?;
        rows.map(|row| Ok(statement.execute(params_from_iter(row))? as u64)).collect()
    }

    pub async fn query<T: FromRow>(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<T>, DbError> {
        let mut statement = self.statement(sql)?;
        let mut found = Vec::new();
        collect(&mut statement, params_from_iter(params), &mut found)?;
        Ok(found)
    }

    /// Runs one query for many rows of parameters, in order; all found rows behind each other.
    pub fn query_many<'p, T: FromRow + Send + 'static, const N: usize>(
        &mut self,
        sql: &str,
        rows: impl IntoIterator<Item = [Param<'p>; N]>,
    ) -> BoxFuture<'_, Result<Vec<T>, DbError>> {
        let result = self.query_each(sql, rows);
        Box::pin(ready(result))
    }

    fn query_each<'p, T: FromRow, const N: usize>(
        &mut self,
        sql: &str,
        rows: impl IntoIterator<Item = [Param<'p>; N]>,
    ) -> Result<Vec<T>, DbError> {
        let mut statement = self.statement(sql)?;
        let mut found = Vec::new();
        for row in rows {
            collect(&mut statement, params_from_iter(row), &mut found)?;
        }
        Ok(found)
    }

    /// The first row, if there is one.
    pub async fn query_opt<T: FromRow>(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Option<T>, DbError> {
        let mut statement = self.statement(sql)?;
        let mut rows = statement.query(params_from_iter(params))?;
        rows.next()?.map(|row| T::from_row(&Row(row))).transpose()
    }

    /// The only row of a query that always has one, such as a count.
    pub async fn query_one<T: FromRow>(&mut self, sql: &str, params: &[Param<'_>]) -> Result<T, DbError> {
        self.query_opt(sql, params).await?.ok_or(DbError::Sqlite(rusqlite::Error::QueryReturnedNoRows))
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, DbError> {
        let sql = sql.trim_end();
        let sql = sql.strip_suffix("for update").unwrap_or(sql);
        Ok(self.connection.prepare_cached(&numbered(sql))?)
    }
}

/// To SQLite `$1` is a name, and names are numbered as they appear: `set a=$2 where id=$1` would get its values crossed. `?1` is a number.
/// Most texts have them in order, and are used as they are.
fn numbered(sql: &str) -> Cow<'_, str> {
    let mut seen = 0;
    let mut in_order = true;
    for (at, _) in sql.match_indices('$') {
        let digits = sql[at + 1..].bytes().take_while(u8::is_ascii_digit);
        let number = digits.fold(0_usize, |number, digit| number * 10 + usize::from(digit - b'0'));
        in_order &= number <= seen + 1;
        seen = seen.max(number);
    }
    if in_order {
        return Cow::Borrowed(sql);
    }
    let is_number = |at: usize| sql[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    Cow::Owned(sql.char_indices().map(|(at, c)| if c == '$' && is_number(at) { '?' } else { c }).collect())
}

fn collect<T: FromRow, P: rusqlite::Params>(statement: &mut CachedStatement<'_>, params: P, found: &mut Vec<T>) -> Result<(), DbError> {
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        found.push(T::from_row(&Row(row))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::params;

    #[tokio::test]
    async fn parameters_go_by_their_number_wherever_they_stand() {
        let mut tx = Tx::new(Connection::open_in_memory().expect("memory is there"));
        tx.execute("create table kit_pairs (id BIGINT primary key, value BIGINT not null)", &[]).await.expect("it is new");
        tx.execute("insert into kit_pairs (id, value) values ($1,$2)", &params![7_i64, 1_i64]).await.expect("it is new");
        let changed = tx.execute("update kit_pairs set value=$2 where id=$1 and value<$2", &params![7_i64, 5_i64]).await;
        assert_eq!(changed.expect("it runs"), 1);
        let found: Vec<(i64, i64)> =
            tx.query("select value, $2 from kit_pairs where id=$1", &params![7_i64, 9_i64]).await.expect("it runs");
        assert_eq!(found, [(5, 9)]);
        assert!(matches!(numbered("select $1, $2, $1, $3"), Cow::Borrowed(_)));
        assert_eq!(numbered("select $2, $1, '$', '$a'"), "select ?2, ?1, '$', '$a'");
    }
}
