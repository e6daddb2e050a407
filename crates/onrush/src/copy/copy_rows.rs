//! Copies rows between databases, and compares digests of both sides.

use super::{
    CopyError, Table, TableDigest,
    cell::{CellRow, CellValue},
    digest,
    rows::Scan,
    schema::quoted,
    tables,
};
use kit::{Param, Tx};
use std::collections::BTreeMap;

/// Maximum number of rows of one insert, if their values fit: SQLite allows 32,766 values per statement, PostgreSQL twice as many.
const MAX_ROWS: usize = 256;
const MAX_VALUES: usize = 30_000;

/// A copied table with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    pub table: String,
    pub digest: TableDigest,
}

/// Copies all rows of these services into empty tables, then compares the digests. Both sides use transactions of the caller.
pub async fn copy_rows(from: &mut Tx, to: &mut Tx, services: &[&'static str]) -> Result<Vec<CopiedTable>, CopyError> {
    let mut copied = Vec::new();
    for service in services {
        for (mine, theirs) in matching_tables(tables(from, service).await?, tables(to, service).await?)? {
            let sent = copy_table(from, to, &mine, &theirs).await?;
            let arrived = digest(to, &theirs, None).await?;
            if sent != arrived {
                return Err(CopyError::Differs { table: mine.name, sent: sent.rows, arrived: arrived.rows });
            }
            copied.push(CopiedTable { table: mine.name, digest: sent });
        }
    }
    Ok(copied)
}

/// Pairs the tables of both sides, in the order of `to`, which has parents first. `Err`: the schemas differ.
pub fn matching_tables(from: Vec<Table>, to: Vec<Table>) -> Result<Vec<(Table, Table)>, CopyError> {
    let advice = "bring both sides to this version first, with `onrush migrate`";
    let mut from: BTreeMap<String, Table> = from.into_iter().map(|table| (table.name.clone(), table)).collect();
    let mut pairs = Vec::with_capacity(from.len());
    for theirs in to {
        let Some(mine) = from.remove(&theirs.name) else {
            return Err(CopyError::Schema(format!("the table {} is missing in the source: {advice}", theirs.name)));
        };
        if let Some(difference) = mine.difference(&theirs) {
            return Err(CopyError::Schema(format!("the tables {} differ ({difference}): {advice}", mine.name)));
        }
        pairs.push((mine, theirs));
    }
    match from.into_keys().next() {
        Some(table) => Err(CopyError::Schema(format!("the table {table} is missing in the target: {advice}"))),
        None => Ok(pairs),
    }
}

async fn copy_table(from: &mut Tx, to: &mut Tx, mine: &Table, theirs: &Table) -> Result<TableDigest, CopyError> {
    let mut digest = TableDigest::default();
    let mut scan = Scan::open(from, mine, None).await?;
    loop {
        let rows = scan.next(from).await?;
        if rows.is_empty() {
            return Ok(digest);
        }
        for row in &rows {
            check_fits(row, theirs)?;
            digest.add(row);
        }
        insert(to, theirs, &rows).await?;
    }
}

fn check_fits(row: &CellRow, table: &Table) -> Result<(), CopyError> {
    for (cell, column) in row.0.iter().zip(&table.columns) {
        cell.check_fits(column.kind).map_err(|reason| CopyError::Value {
            table: table.name.clone(),
            column: column.name.clone(),
            reason: reason.to_owned(),
        })?;
    }
    Ok(())
}

async fn insert(to: &mut Tx, table: &Table, rows: &[CellRow]) -> Result<(), CopyError> {
    let width = table.columns.len().max(1);
    for rows in rows.chunks(MAX_ROWS.min(MAX_VALUES / width)) {
        let placeholders_of = |row: usize| {
            let places: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
            format!("({})", places.join(","))
        };
        let places: Vec<String> = (0..rows.len()).map(placeholders_of).collect();
        let sql = format!("insert into {} ({}) values {}", quoted(&table.name), table.column_list(), places.join(","));
        let params: Vec<Param<'_>> = rows.iter().flat_map(|row| row.0.iter().map(CellValue::param)).collect();
        to.execute(&sql, &params).await?;
    }
    Ok(())
}
