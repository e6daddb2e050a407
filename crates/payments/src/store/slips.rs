//! Routing slips in columns.

use contracts::messages::RoutingSlip;
use kit::{DbError, Fault, Row};

/// Decodes the slip in this column. `None`: the column is null.
pub fn slip_from_row(row: &Row<'_>, index: usize) -> Result<Option<RoutingSlip>, DbError> {
    let text: Option<String> = row.get(index)?;
    let decode = |text: String| RoutingSlip::decode(&text).map_err(|error| DbError::Column { index, reason: error.to_string() });
    text.map(decode).transpose()
}

/// Encodes a slip for a column.
pub fn encode_slip(slip: Option<&RoutingSlip>) -> Result<Option<String>, Fault> {
    let encode = |slip: &RoutingSlip| slip.encode().map_err(|error| Fault::Bug(format!("a slip does not serialize: {error}")));
    slip.map(encode).transpose()
}
