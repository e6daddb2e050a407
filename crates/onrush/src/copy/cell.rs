//! Values of cells, and the check that a column of PostgreSQL can store them.

use super::schema::ColumnKind;
use kit::{
    DbError, Param, Row,
    db::{ColumnValue, FromColumn, FromRow},
};
use sha2::{Digest as _, Sha256};

/// A value of any column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellValue {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl FromColumn for CellValue {
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        Ok(match value {
            ColumnValue::Null => CellValue::Null,
            ColumnValue::Int(number) => CellValue::Int(number),
            ColumnValue::Text(text) => CellValue::Text(text.to_owned()),
            ColumnValue::Bytes(bytes) => CellValue::Bytes(bytes.to_owned()),
        })
    }
}

impl CellValue {
    pub fn param(&self) -> Param<'_> {
        match self {
            CellValue::Null => Param::Null,
            CellValue::Int(number) => Param::Int(*number),
            CellValue::Text(text) => Param::Text(text),
            CellValue::Bytes(bytes) => Param::Bytes(bytes),
        }
    }

    /// Adds the value to a hash. Different values add different bytes, because of type tag and length.
    pub fn hash_into(&self, hash: &mut Sha256) {
        let (tag, bytes): (u8, &[u8]) = match self {
            CellValue::Null => (0, &[]),
            CellValue::Int(number) => {
                hash.update([1]);
                return hash.update(number.to_be_bytes());
            }
            CellValue::Text(text) => (2, text.as_bytes()),
            CellValue::Bytes(bytes) => (3, bytes),
        };
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }

    /// Checks that a column of PostgreSQL can store the value; SQLite stores any value in any column. `Err`: the reason, without the value.
    pub fn check_fits(&self, kind: ColumnKind) -> Result<(), &'static str> {
        match (self, kind) {
            (CellValue::Null, _) | (CellValue::Int(_), ColumnKind::Number) | (CellValue::Bytes(_), ColumnKind::Bytes) => Ok(()),
            (CellValue::Int(0 | 1), ColumnKind::Flag) => Ok(()),
            (CellValue::Bytes(bytes), ColumnKind::Id) if bytes.len() == 16 => Ok(()),
            (CellValue::Text(text), ColumnKind::Text) if text.contains('\0') => {
                Err("holds the character U+0000, which PostgreSQL does not store")
            }
            (CellValue::Text(_), ColumnKind::Text) => Ok(()),
            (_, ColumnKind::Number) => Err("is not a whole number"),
            (_, ColumnKind::Flag) => Err("is not a truth value"),
            (_, ColumnKind::Id) => Err("is not an id of 16 bytes"),
            (_, ColumnKind::Text) => Err("is not text"),
            (_, ColumnKind::Bytes) => Err("is not bytes"),
        }
    }
}

/// One row of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRow(pub Vec<CellValue>);

impl FromRow for CellRow {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        (0..row.width()).map(|index| row.get(index)).collect::<Result<_, _>>().map(CellRow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_postgresql_cannot_store_are_found() {
        assert!(CellValue::Bytes(vec![0; 16]).check_fits(ColumnKind::Id).is_ok());
        assert!(CellValue::Null.check_fits(ColumnKind::Id).is_ok());
        for (cell, kind) in [
            (CellValue::Bytes(vec![0; 15]), ColumnKind::Id),
            (CellValue::Text("a\0b".into()), ColumnKind::Text),
            (CellValue::Int(2), ColumnKind::Flag),
            (CellValue::Text("7".into()), ColumnKind::Number),
            (CellValue::Text("ab".into()), ColumnKind::Bytes),
        ] {
            assert!(cell.check_fits(kind).is_err(), "{cell:?} in a column of {kind:?}");
        }
    }

    #[test]
    fn values_of_other_type_or_length_have_other_hashes() {
        let hash = |cells: &[CellValue]| {
            let mut hash = Sha256::new();
            cells.iter().for_each(|cell| cell.hash_into(&mut hash));
            hash.finalize()
        };
        let text = |text: &str| CellValue::Text(text.into());
        assert_ne!(hash(&[text("ab"), text("c")]), hash(&[text("a"), text("bc")]));
        assert_ne!(hash(&[text("a")]), hash(&[CellValue::Bytes(b"a".to_vec())]));
        assert_ne!(hash(&[CellValue::Null]), hash(&[text("")]));
    }
}
