use super::DbError;
use contracts::{Timestamp, Won};
use rusqlite::types::ValueRef;
use uuid::Uuid;

/// One row of an answer; columns are read by position.
#[derive(Debug)]
pub struct Row<'r>(pub(super) &'r rusqlite::Row<'r>);

impl Row<'_> {
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T, DbError> {
        let value = self.0.get_ref(index)?;
        T::from_column(value).map_err(|reason| DbError::Column { index, reason })
    }
}

/// A type a column can be read as.
pub trait FromColumn: Sized {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String>;
}

impl FromColumn for i64 {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        value.as_i64().map_err(|error| error.to_string())
    }
}
impl FromColumn for u32 {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        i64::from_column(value)?.try_into().map_err(|_| "out of range for u32".to_owned())
    }
}
impl FromColumn for u16 {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        i64::from_column(value)?.try_into().map_err(|_| "out of range for u16".to_owned())
    }
}
impl FromColumn for bool {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        i64::from_column(value).map(|flag| flag != 0)
    }
}
impl FromColumn for String {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        value.as_str().map(str::to_owned).map_err(|error| error.to_string())
    }
}
impl FromColumn for Vec<u8> {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        value.as_blob().map(<[u8]>::to_vec).map_err(|error| error.to_string())
    }
}
impl<const N: usize> FromColumn for [u8; N] {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        value.as_blob().map_err(|error| error.to_string())?.try_into().map_err(|_| format!("not {N} bytes"))
    }
}
impl FromColumn for Uuid {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        <[u8; 16]>::from_column(value).map(Uuid::from_bytes)
    }
}
impl FromColumn for Won {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        i64::from_column(value).map(Won)
    }
}
impl FromColumn for Timestamp {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        i64::from_column(value).map(Timestamp)
    }
}
impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
        match value {
            ValueRef::Null => Ok(None),
            other => T::from_column(other).map(Some),
        }
    }
}

macro_rules! id_column {
    ($($type:ty),*) => {$(
        impl FromColumn for $type {
            fn from_column(value: ValueRef<'_>) -> Result<Self, String> {
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
    contracts::IssuedCouponId,
    contracts::OrderId,
    contracts::PaymentId
);

/// A type a whole row can be read as. Tuples work for short answers; nouns implement it beside their SQL.
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
