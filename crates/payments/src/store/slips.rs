use contracts::messages::RoutingSlip;
use kit::{DbError, Fault, Row};

/// The slip in this column, if there is one.
pub fn slip(row: &Row<'_>, index: usize) -> Result<Option<RoutingSlip>, DbError> {
    let text: Option<String> = row.get(index)?;
    let decode = |text: String| RoutingSlip::decode(&text).map_err(|error| DbError::Column { index, reason: error.to_string() });
    text.map(decode).transpose()
}

pub fn encoded(slip: Option<&RoutingSlip>) -> Result<Option<String>, Fault> {
    let encode = |slip: &RoutingSlip| slip.encode().map_err(|error| Fault::Bug(format!("a slip does not serialize: {error}")));
    slip.map(encode).transpose()
}
