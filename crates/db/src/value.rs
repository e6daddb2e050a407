//! Values of columns, in the form that both databases share.

/// A column's value, from either database. Ids are 16 bytes, booleans 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnValue<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> ColumnValue<'a> {
    #[inline]
    pub(super) fn int(self) -> Result<i64, String> {
        match self {
            ColumnValue::Int(number) => Ok(number),
            other => Err(other.is_not("a whole number")),
        }
    }

    #[inline]
    pub(super) fn text(self) -> Result<&'a str, String> {
        match self {
            ColumnValue::Text(text) => Ok(text),
            other => Err(other.is_not("text")),
        }
    }

    #[inline]
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            ColumnValue::Bytes(bytes) => Ok(bytes),
            other => Err(other.is_not("bytes")),
        }
    }

    fn is_not(self, wanted: &str) -> String {
        let is = match self {
            ColumnValue::Null => "null",
            ColumnValue::Int(_) => "a whole number",
            ColumnValue::Text(_) => "text",
            ColumnValue::Bytes(_) => "bytes",
        };
        format!("is {is}, not {wanted}")
    }
}
