//! Tables of a service and the types of their columns, read from the database, so that no table can be forgotten.

use super::CopyError;
use kit::{Tx, db::params};
use std::collections::{BTreeMap, BTreeSet};

/// Type of a column, independent of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Id,
    Number,
    Text,
    Flag,
    Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub service: &'static str,
    pub name: String,
    pub columns: Vec<Column>,
    /// Columns of the primary key, on SQLite.
    pub key: Vec<String>,
}

impl Table {
    /// Comma-separated column names, in the same order on both sides.
    pub fn column_list(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(",")
    }

    /// True if `rest` is the name of the table without the prefix of the service.
    pub fn is_named(&self, rest: &str) -> bool {
        self.name.strip_prefix(self.service).and_then(|name| name.strip_prefix('_')) == Some(rest)
    }

    /// Columns that differ from those of `other`. `None`: they are equal.
    pub fn difference(&self, other: &Table) -> Option<String> {
        let names =
            |table: &Table| table.columns.iter().map(|column| format!("{} {:?}", column.name, column.kind)).collect::<BTreeSet<_>>();
        let (mine, theirs) = (names(self), names(other));
        (mine != theirs).then(|| mine.symmetric_difference(&theirs).cloned().collect::<Vec<_>>().join(", "))
    }
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The data tables of a service, with parents before the tables that refer to them. Excluded are migration histories, which each
/// database has for itself; leases, which belong to processes; and messages without a number, which are counted separately.
pub async fn tables(tx: &mut Tx, service: &'static str) -> Result<Vec<Table>, CopyError> {
    let (columns, parents) = if tx.is_postgres() { read_postgres(tx, service).await? } else { read_sqlite(tx, service).await? };
    let mut found: BTreeMap<String, Table> = BTreeMap::new();
    for (table, column, declared, key) in columns {
        if is_excluded(service, &table) {
            continue;
        }
        let kind = parse_kind(&declared).ok_or_else(|| CopyError::Schema(format!("{table}.{column} has the unknown type {declared}")))?;
        let entry = found.entry(table.clone()).or_insert_with(|| Table { service, name: table, columns: Vec::new(), key: Vec::new() });
        if key > 0 {
            entry.key.push(column.clone());
        }
        entry.columns.push(Column { name: column, kind });
    }
    for table in found.values_mut() {
        table.columns.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(parents_first(found, &parents))
}

/// True for tables that [`tables`] excludes.
fn is_excluded(service: &str, table: &str) -> bool {
    let rest = table.strip_prefix(service).unwrap_or(table);
    ["_migrations", "_kit_migrations", "_leases", "_pending"].contains(&rest)
}

fn parse_kind(declared: &str) -> Option<ColumnKind> {
    Some(match declared.to_ascii_lowercase().as_str() {
        "uuid" => ColumnKind::Id,
        "bigint" => ColumnKind::Number,
        "text" => ColumnKind::Text,
        "boolean" => ColumnKind::Flag,
        "bytea" => ColumnKind::Bytes,
        _ => return None,
    })
}

/// Table, column, declared type, position in the primary key.
type ColumnRows = Vec<(String, String, String, i64)>;
/// A table, and a table it refers to.
type ParentRows = Vec<(String, String)>;

async fn read_sqlite(tx: &mut Tx, service: &str) -> Result<(ColumnRows, ParentRows), CopyError> {
    let like = format!("{service}\\_%");
    let columns = tx
        .query(
            "select m.name, c.name, c.type, c.pk from sqlite_master m join pragma_table_info(m.name) c \
             where m.type='table' and m.name like $1 escape '\\' order by m.name, c.pk, c.cid",
            &params![&like],
        )
        .await?;
    let parents = tx
        .query(
            "select m.name, f.\"table\" from sqlite_master m join pragma_foreign_key_list(m.name) f \
             where m.type='table' and m.name like $1 escape '\\'",
            &params![&like],
        )
        .await?;
    Ok((columns, parents))
}

async fn read_postgres(tx: &mut Tx, service: &str) -> Result<(ColumnRows, ParentRows), CopyError> {
    let columns = tx
        .query(
            "select cast(c.relname as TEXT), cast(a.attname as TEXT), format_type(a.atttypid, null), cast(0 as BIGINT) \
             from pg_class c join pg_namespace n on n.oid=c.relnamespace join pg_attribute a on a.attrelid=c.oid \
             where n.nspname=$1 and c.relkind='r' and a.attnum>0 and not a.attisdropped order by c.relname, a.attnum",
            &params![service],
        )
        .await?;
    let parents = tx
        .query(
            "select cast(c.relname as TEXT), cast(p.relname as TEXT) from pg_constraint k join pg_class c on c.oid=k.conrelid \
             join pg_class p on p.oid=k.confrelid join pg_namespace n on n.oid=c.relnamespace where k.contype='f' and n.nspname=$1",
            &params![service],
        )
        .await?;
    Ok((columns, parents))
}

fn parents_first(mut left: BTreeMap<String, Table>, parents: &ParentRows) -> Vec<Table> {
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |name: &str| parents.iter().any(|(child, parent)| child == name && parent != name && left.contains_key(parent));
        // Tables that refer to each other in a cycle would all wait, so any of them may go first.
        let next = left.keys().find(|name| !waits(name)).or_else(|| left.keys().next()).cloned();
        ordered.extend(next.and_then(|name| left.remove(&name)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_precede_the_tables_that_refer_to_them() {
        let table = |name: &str| (name.to_owned(), Table { service: "a", name: name.to_owned(), columns: Vec::new(), key: Vec::new() });
        let left: BTreeMap<_, _> = ["a_children", "a_parents", "a_tokens"].map(table).into();
        let refers = |child: &str, parent: &str| (child.to_owned(), parent.to_owned());
        let parents = vec![refers("a_children", "a_parents"), refers("a_tokens", "a_children"), refers("a_tokens", "a_tokens")];
        let names: Vec<String> = parents_first(left, &parents).into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["a_parents", "a_children", "a_tokens"]);
    }
}
