//! Values on their way, and what the columns of both databases can hold.

use super::schema::Kind;
use kit::{
    DbError, Param, Row,
    db::{FromColumn, FromRow, Value},
};
use sha2::{Digest as _, Sha256};

/// A value of a column that is not known before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl FromColumn for Cell {
    fn from_column(value: Value<'_>) -> Result<Self, String> {
        Ok(match value {
            Value::Null => Cell::Null,
            Value::Int(number) => Cell::Int(number),
            Value::Text(text) => Cell::Text(text.to_owned()),
            Value::Bytes(bytes) => Cell::Bytes(bytes.to_owned()),
        })
    }
}

impl Cell {
    pub fn param(&self) -> Param<'_> {
        match self {
            Cell::Null => Param::Null,
            Cell::Int(number) => Param::Int(*number),
            Cell::Text(text) => Param::Text(text),
            Cell::Bytes(bytes) => Param::Bytes(bytes),
        }
    }

    /// Adds what it is to a hash; no two values look the same there.
    pub fn feed(&self, hash: &mut Sha256) {
        let (tag, bytes): (u8, &[u8]) = match self {
            Cell::Null => (0, &[]),
            Cell::Int(number) => {
                hash.update([1]);
                return hash.update(number.to_be_bytes());
            }
            Cell::Text(text) => (2, text.as_bytes()),
            Cell::Bytes(bytes) => (3, bytes),
        };
        hash.update([tag]);
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }

    /// SQLite takes any value in any column; PostgreSQL does not. Says what does not fit, without showing the value.
    pub fn fits(&self, kind: Kind) -> Result<(), &'static str> {
        match (self, kind) {
            (Cell::Null, _) | (Cell::Int(_), Kind::Number) | (Cell::Bytes(_), Kind::Bytes) => Ok(()),
            (Cell::Int(0 | 1), Kind::Flag) => Ok(()),
            (Cell::Bytes(bytes), Kind::Id) if bytes.len() == 16 => Ok(()),
            (Cell::Text(text), Kind::Text) if text.contains('\0') => Err("holds the character U+0000, which PostgreSQL does not store"),
            (Cell::Text(_), Kind::Text) => Ok(()),
            (_, Kind::Number) => Err("is not a whole number"),
            (_, Kind::Flag) => Err("is not a truth value"),
            (_, Kind::Id) => Err("is not an id of 16 bytes"),
            (_, Kind::Text) => Err("is not text"),
            (_, Kind::Bytes) => Err("is not bytes"),
        }
    }
}

/// One row of whatever table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells(pub Vec<Cell>);

impl FromRow for Cells {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        (0..row.width()).map(|index| row.get(index)).collect::<Result<_, _>>().map(Cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_column_of_postgresql_cannot_hold_is_found() {
        assert!(Cell::Bytes(vec![0; 16]).fits(Kind::Id).is_ok());
        assert!(Cell::Null.fits(Kind::Id).is_ok());
        for (cell, kind) in [
            (Cell::Bytes(vec![0; 15]), Kind::Id),
            (Cell::Text("a\0b".into()), Kind::Text),
            (Cell::Int(2), Kind::Flag),
            (Cell::Text("7".into()), Kind::Number),
            (Cell::Text("ab".into()), Kind::Bytes),
        ] {
            assert!(cell.fits(kind).is_err(), "{cell:?} in a column of {kind:?}");
        }
    }

    #[test]
    fn values_are_told_apart_by_type_and_length() {
        let hash = |cells: &[Cell]| {
            let mut hash = Sha256::new();
            cells.iter().for_each(|cell| cell.feed(&mut hash));
            hash.finalize()
        };
        let text = |text: &str| Cell::Text(text.into());
        assert_ne!(hash(&[text("ab"), text("c")]), hash(&[text("a"), text("bc")]));
        assert_ne!(hash(&[text("a")]), hash(&[Cell::Bytes(b"a".to_vec())]));
        assert_ne!(hash(&[Cell::Null]), hash(&[text("")]));
    }
}
