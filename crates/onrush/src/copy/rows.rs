//! Scans a table in chunks of rows, and computes its digest.

use super::{
    CopyError, Table,
    cell::{CellRow, CellValue},
    schema::quoted,
};
use kit::{Param, Tx};
use sha2::{Digest as _, Sha256};

/// Rows fetched at a time, which bounds the memory.
const ROWS_PER_FETCH: usize = 1_000;

/// Number of rows of a table, and a sum of their hashes that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableDigest {
    pub rows: u64,
    sum: u128,
}

impl TableDigest {
    pub fn add(&mut self, cells: &CellRow) {
        let mut hash = Sha256::new();
        cells.0.iter().for_each(|cell| cell.hash_into(&mut hash));
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
    }
}

/// A scan of a table within one transaction.
pub struct Scan<'t> {
    table: &'t Table,
    filter: String,
    /// Primary key of the last row read, on SQLite.
    last: Option<Vec<CellValue>>,
    is_finished: bool,
}

impl<'t> Scan<'t> {
    /// Opens a scan. With `up_to`, it reads only rows of epochs up to that one.
    pub async fn open(tx: &mut Tx, table: &'t Table, up_to: Option<i64>) -> Result<Scan<'t>, CopyError> {
        let filter = up_to.map(|epoch| format!("epoch<={epoch}")).unwrap_or_default();
        let scan = Scan { table, filter, last: None, is_finished: false };
        if tx.is_postgres() {
            let filter = if scan.filter.is_empty() { String::new() } else { format!(" where {}", scan.filter) };
            // Fails outside of a transaction. So after a lost connection, rows of two moments are never mixed.
            let sql = format!(
                "declare {} no scroll cursor for select {} from {}{filter}",
                scan.cursor(),
                table.column_list(),
                quoted(&table.name)
            );
            tx.batch(&sql).await?;
        }
        Ok(scan)
    }

    fn cursor(&self) -> String {
        quoted(&format!("scan_{}", self.table.name))
    }

    /// The next rows, with cells in the order of the table's columns. Empty at the end.
    pub async fn next(&mut self, tx: &mut Tx) -> Result<Vec<CellRow>, CopyError> {
        if self.is_finished {
            return Ok(Vec::new());
        }
        let rows: Vec<CellRow> = if tx.is_postgres() {
            tx.query(&format!("fetch {ROWS_PER_FETCH} from {}", self.cursor()), &[]).await?
        } else {
            self.fetch_sqlite(tx).await?
        };
        if rows.len() < ROWS_PER_FETCH {
            self.is_finished = true;
            if tx.is_postgres() {
                tx.batch(&format!("close {}", self.cursor())).await?;
            }
        }
        Ok(rows)
    }

    /// Fetches the rows after the last key. An open statement would block the connection for all other statements.
    async fn fetch_sqlite(&mut self, tx: &mut Tx) -> Result<Vec<CellRow>, CopyError> {
        let key: Vec<String> = self.table.key.iter().map(|name| quoted(name)).collect();
        if key.is_empty() {
            return Err(CopyError::Schema(format!("{} has no primary key", self.table.name)));
        }
        let mut conditions: Vec<String> = Vec::new();
        if !self.filter.is_empty() {
            conditions.push(self.filter.clone());
        }
        if self.last.is_some() {
            let places: Vec<String> = (1..=key.len()).map(|place| format!("${place}")).collect();
            conditions.push(format!("({})>({})", key.join(","), places.join(",")));
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" where {}", conditions.join(" and ")) };
        let sql = format!(
            "select {} from {}{filter} order by {} limit {ROWS_PER_FETCH}",
            self.table.column_list(),
            quoted(&self.table.name),
            key.join(",")
        );
        let params: Vec<Param<'_>> = self.last.iter().flatten().map(CellValue::param).collect();
        let rows: Vec<CellRow> = tx.query(&sql, &params).await?;
        if let Some(row) = rows.last() {
            let place = |name: &String| self.table.columns.iter().position(|column| column.name == *name);
            self.last = Some(self.table.key.iter().filter_map(place).map(|index| row.0[index].clone()).collect());
        }
        Ok(rows)
    }
}

/// Computes the digest of a table.
pub async fn digest(tx: &mut Tx, table: &Table, up_to: Option<i64>) -> Result<TableDigest, CopyError> {
    let mut digest = TableDigest::default();
    let mut scan = Scan::open(tx, table, up_to).await?;
    loop {
        let rows = scan.next(tx).await?;
        if rows.is_empty() {
            return Ok(digest);
        }
        rows.iter().for_each(|row| digest.add(row));
    }
}
