//! Money: whole won as 64-bit integers with checked arithmetic. No floating point.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// An amount of whole Korean won. Differences may be negative; prices and balances are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Won(pub i64);

/// A sum or product exceeds 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range")]
pub struct AmountOutOfRange;

impl Won {
    pub const ZERO: Won = Won(0);

    /// `Err`: the sum exceeds 64 bits.
    pub fn plus(self, other: Won) -> Result<Won, AmountOutOfRange> {
        self.0.checked_add(other.0).map(Won).ok_or(AmountOutOfRange)
    }

    /// `Err`: the difference exceeds 64 bits.
    pub fn minus(self, other: Won) -> Result<Won, AmountOutOfRange> {
        self.0.checked_sub(other.0).map(Won).ok_or(AmountOutOfRange)
    }

    /// `Err`: the product exceeds 64 bits.
    pub fn times(self, count: u32) -> Result<Won, AmountOutOfRange> {
        self.0.checked_mul(i64::from(count)).map(Won).ok_or(AmountOutOfRange)
    }

    /// The share in basis points (1/100 of a percent), rounded down. Saturates at `i64::MAX`.
    pub fn basis_points(self, basis_points: u32) -> Won {
        let exact = i128::from(self.0) * i128::from(basis_points) / 10_000;
        Won(i64::try_from(exact).unwrap_or(i64::MAX))
    }

    /// `Err`: the sum exceeds 64 bits.
    pub fn sum(amounts: impl IntoIterator<Item = Won>) -> Result<Won, AmountOutOfRange> {
        amounts.into_iter().try_fold(Won::ZERO, Won::plus)
    }

    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl fmt::Display for Won {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_an_error_and_never_wraps() {
        assert_eq!(Won(i64::MAX).plus(Won(1)), Err(AmountOutOfRange));
        assert_eq!(Won(i64::MAX / 2).times(3), Err(AmountOutOfRange));
        assert_eq!(Won(i64::MIN).minus(Won(1)), Err(AmountOutOfRange));
    }

    #[test]
    fn basis_points_round_down() {
        assert_eq!(Won(999).basis_points(1_000), Won(99));
        assert_eq!(Won(i64::MAX).basis_points(10_000), Won(i64::MAX));
    }
}
