//! Encodes and decodes values in the server's binary format.

use crate::{Param, value::ColumnValue};
use std::{collections::HashSet, error::Error, ops::Range};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use uuid::Uuid;

type ConversionError = Box<dyn Error + Sync + Send>;

/// The server tells the wanted type. A value that does not fit is rejected here.
impl ToSql for Param<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, ConversionError> {
        match *self {
            Param::Null => return Ok(IsNull::Yes),
            Param::Int(number) => encode_integer(number, wanted, out)?,
            Param::Text(text) if is_text(wanted) => out.extend_from_slice(text.as_bytes()),
            Param::Bytes(bytes) if *wanted == Type::BYTEA || *wanted == Type::UUID && bytes.len() == 16 => out.extend_from_slice(bytes),
            Param::Id(id) if *wanted == Type::UUID || *wanted == Type::BYTEA => out.extend_from_slice(id.as_bytes()),
            Param::Text(_) => return Err(format!("text does not fit {wanted}").into()),
            Param::Bytes(bytes) => return Err(format!("{} bytes do not fit {wanted}", bytes.len()).into()),
            Param::Id(_) => return Err(format!("an id does not fit {wanted}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn encode_integer(number: i64, wanted: &Type, out: &mut BytesMut) -> Result<(), ConversionError> {
    let range = |_| format!("{number} is out of range for {wanted}");
    match *wanted {
        Type::INT8 => out.extend_from_slice(&number.to_be_bytes()),
        Type::INT4 => out.extend_from_slice(&i32::try_from(number).map_err(range)?.to_be_bytes()),
        Type::INT2 => out.extend_from_slice(&i16::try_from(number).map_err(range)?.to_be_bytes()),
        Type::BOOL if number == 0 || number == 1 => out.extend_from_slice(&[u8::from(number == 1)]),
        _ => return Err(format!("the number {number} does not fit {wanted}").into()),
    }
    Ok(())
}

fn is_text(wanted: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN].contains(wanted)
}

/// The value of a column.
pub fn column(row: &tokio_postgres::Row, index: usize) -> Result<ColumnValue<'_>, String> {
    match row.try_get::<_, RawColumn<'_>>(index) {
        Ok(RawColumn(value)) => Ok(value),
        Err(error) => Err(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

/// A column with a number that the server generated.
pub fn integer_column(row: &tokio_postgres::Row, index: usize) -> Result<i64, tokio_postgres::Error> {
    row.try_get(index)
}

struct RawColumn<'a>(ColumnValue<'a>);

impl<'a> FromSql<'a> for RawColumn<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, ConversionError> {
        Ok(RawColumn(match *kind {
            Type::INT8 => ColumnValue::Int(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => ColumnValue::Int(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT2 => ColumnValue::Int(i16::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => ColumnValue::Int(i64::from(raw != [0])),
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => ColumnValue::Text(std::str::from_utf8(raw)?),
            Type::BYTEA | Type::UUID => ColumnValue::Bytes(raw),
            Type::NUMERIC => return Err("a NUMERIC, which sums of BIGINT are here: cast the sum to BIGINT".into()),
            ref other => return Err(format!("the type {other} is not read here: cast it").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, ConversionError> {
        Ok(RawColumn(ColumnValue::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Rows of parameters, copied so that they live across awaits, with a few allocations for all of them.
#[derive(Debug)]
pub struct ParamRows {
    cells: Vec<ParamCell>,
    width: usize,
    text: String,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum ParamCell {
    Null,
    Int(i64),
    Id(Uuid),
    Text(Range<usize>),
    Bytes(Range<usize>),
}

impl ParamRows {
    pub fn copied<'p, const N: usize>(rows: impl IntoIterator<Item = [Param<'p>; N]>) -> Self {
        let mut copied = ParamRows { cells: Vec::new(), width: N, text: String::new(), bytes: Vec::new() };
        for param in rows.into_iter().flatten() {
            let cell = match param {
                Param::Null => ParamCell::Null,
                Param::Int(number) => ParamCell::Int(number),
                Param::Id(id) => ParamCell::Id(id),
                Param::Text(text) => {
                    let start = copied.text.len();
                    copied.text.push_str(text);
                    ParamCell::Text(start..copied.text.len())
                }
                Param::Bytes(bytes) => {
                    let start = copied.bytes.len();
                    copied.bytes.extend_from_slice(bytes);
                    ParamCell::Bytes(start..copied.bytes.len())
                }
            };
            copied.cells.push(cell);
        }
        copied
    }

    /// The number of parameters in one row.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn len(&self) -> usize {
        self.cells.len() / self.width.max(1)
    }

    /// The parameters of one row.
    pub fn params(&self, row: usize) -> impl ExactSizeIterator<Item = Param<'_>> {
        self.cells[row * self.width..(row + 1) * self.width].iter().map(|cell| self.param(cell))
    }

    /// The values of one parameter in these rows.
    pub fn column(&self, index: usize, rows: Range<usize>) -> impl Iterator<Item = Param<'_>> {
        rows.map(move |row| self.param(&self.cells[row * self.width + index]))
    }

    /// True if no two rows have the same values in all these columns.
    pub fn are_distinct_in(&self, columns: &[usize]) -> bool {
        let mut seen = HashSet::with_capacity(self.len());
        (0..self.len()).all(|row| {
            let key: Vec<Param<'_>> = columns.iter().map(|index| self.param(&self.cells[row * self.width + index])).collect();
            seen.insert(key)
        })
    }

    fn param(&self, cell: &ParamCell) -> Param<'_> {
        match cell {
            ParamCell::Null => Param::Null,
            ParamCell::Int(number) => Param::Int(*number),
            ParamCell::Id(id) => Param::Id(*id),
            ParamCell::Text(range) => Param::Text(&self.text[range.clone()]),
            ParamCell::Bytes(range) => Param::Bytes(&self.bytes[range.clone()]),
        }
    }
}
