//! Parameters: the values bound to the placeholders of a statement.

use contracts::{Timestamp, Won};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use uuid::Uuid;

/// A value bound to `$1 … $n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Id(Uuid),
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Null => ToSqlOutput::Owned(Value::Null),
            Param::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Param::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Param::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Param::Id(id) => ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes())),
        })
    }
}

macro_rules! from_int {
    ($($type:ty),*) => {$(
        impl From<$type> for Param<'_> {
            fn from(value: $type) -> Self {
                Param::Int(i64::from(value))
            }
        }
    )*};
}
from_int!(i64, i32, u32, u16, bool);

macro_rules! from_id {
    ($($type:ty),*) => {$(
        impl From<$type> for Param<'_> {
            fn from(id: $type) -> Self {
                Param::Id(id.into())
            }
        }
    )*};
}
from_id!(
    Uuid,
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

impl From<Won> for Param<'_> {
    fn from(amount: Won) -> Self {
        Param::Int(amount.0)
    }
}
impl From<Timestamp> for Param<'_> {
    fn from(at: Timestamp) -> Self {
        Param::Int(at.0)
    }
}
impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Self {
        Param::Text(text)
    }
}
impl<'a> From<&'a String> for Param<'a> {
    fn from(text: &'a String) -> Self {
        Param::Text(text)
    }
}
impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Param::Bytes(bytes)
    }
}
impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Param::Bytes(bytes)
    }
}
impl<'a, const N: usize> From<&'a [u8; N]> for Param<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Param::Bytes(bytes)
    }
}
impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Param::Null, Into::into)
    }
}

/// `params![id, now, "text"]`: an array of [`Param`].
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        [$($crate::Param::from($value)),*]
    };
}
