//! Result rows: columns as types of the product, from either database.

use super::{DbError, postgres, sqlite::CopiedRow, value::ColumnValue};
use contracts::{Timestamp, Won};
use rusqlite::types::ValueRef;
use uuid::Uuid;

/// One result row. Columns are read by position.
#[derive(Debug)]
pub struct Row<'r>(BackendRow<'r>);

#[derive(Debug)]
enum BackendRow<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Copied(&'r CopiedRow),
    Postgres(&'r tokio_postgres::Row),
}

impl<'r> Row<'r> {
    pub(super) fn sqlite(row: &'r rusqlite::Row<'r>) -> Self {
        Self(BackendRow::Sqlite(row))
    }

    pub(super) fn copied(row: &'r CopiedRow) -> Self {
        Self(BackendRow::Copied(row))
    }

    pub(super) fn postgres(row: &'r tokio_postgres::Row) -> Self {
        Self(BackendRow::Postgres(row))
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        match self.0 {
            BackendRow::Sqlite(row) => row.as_ref().column_count(),
            BackendRow::Copied(row) => row.len(),
            BackendRow::Postgres(row) => row.len(),
        }
    }

    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T, DbError> {
        let value = match self.0 {
            BackendRow::Sqlite(row) => sqlite_value(row.get_ref(index)?),
            BackendRow::Copied(row) => {
                row.get(index).ok_or_else(|| "no such column".to_owned()).and_then(|value| sqlite_value(value.into()))
            }
            BackendRow::Postgres(row) => postgres::column(row, index),
        };
        value.and_then(T::from_column).map_err(|reason| DbError::Column { index, reason })
    }
}

fn sqlite_value(value: ValueRef<'_>) -> Result<ColumnValue<'_>, String> {
    Ok(match value {
        ValueRef::Null => ColumnValue::Null,
        ValueRef::Integer(number) => ColumnValue::Int(number),
        ValueRef::Text(text) => ColumnValue::Text(std::str::from_utf8(text).map_err(|error| error.to_string())?),
        ValueRef::Blob(bytes) => ColumnValue::Bytes(bytes),
        ValueRef::Real(_) => return Err("a floating-point number, which nothing here stores".into()),
    })
}

/// A type that a column can be read as.
pub trait FromColumn: Sized {
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String>;
}

impl FromColumn for i64 {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        value.int()
    }
}
impl FromColumn for u32 {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        i64::from_column(value)?.try_into().map_err(|_| "out of range for u32".to_owned())
    }
}
impl FromColumn for u16 {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        i64::from_column(value)?.try_into().map_err(|_| "out of range for u16".to_owned())
    }
}
impl FromColumn for bool {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        i64::from_column(value).map(|flag| flag != 0)
    }
}
impl FromColumn for String {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        value.text().map(str::to_owned)
    }
}
impl FromColumn for Vec<u8> {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        value.bytes().map(<[u8]>::to_vec)
    }
}
impl<const N: usize> FromColumn for [u8; N] {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        value.bytes()?.try_into().map_err(|_| format!("not {N} bytes"))
    }
}
impl FromColumn for Uuid {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        <[u8; 16]>::from_column(value).map(Uuid::from_bytes)
    }
}
impl FromColumn for Won {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        i64::from_column(value).map(Won)
    }
}
impl FromColumn for Timestamp {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        i64::from_column(value).map(Timestamp)
    }
}
impl<T: FromColumn> FromColumn for Option<T> {
    #[inline]
    fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
        match value {
            ColumnValue::Null => Ok(None),
            other => T::from_column(other).map(Some),
        }
    }
}

macro_rules! id_column {
    ($($type:ty),*) => {$(
        impl FromColumn for $type {
            #[inline]
            fn from_column(value: ColumnValue<'_>) -> Result<Self, String> {
                Uuid::from_column(value).map(Self)
            }
        }
    )*};
}
id_column!(
    contracts::MemberId,
    contracts::StoreId,
    contracts::ProductId,
    contracts::Sku,
    contracts::CouponId,
    contracts::ClaimId,
    contracts::IssuedCouponId,
    contracts::OrderId,
    contracts::PaymentId
);

/// A type that a whole row can be read as. Tuples work for short results. Model types implement it beside their SQL.
pub trait FromRow: Sized {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError>;
}

macro_rules! tuple_row {
    ($($name:ident $index:tt),*) => {
        impl<$($name: FromColumn),*> FromRow for ($($name,)*) {
            fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
                Ok(($(row.get::<$name>($index)?,)*))
            }
        }
    };
}
tuple_row!(A 0);
tuple_row!(A 0, B 1);
tuple_row!(A 0, B 1, C 2);
tuple_row!(A 0, B 1, C 2, D 3);
tuple_row!(A 0, B 1, C 2, D 3, E 4);
tuple_row!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple_row!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
