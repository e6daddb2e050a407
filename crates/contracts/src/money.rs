//! Money: whole won as 64-bit integers with checked arithmetic. No floating point.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected, Visitor},
};
use std::fmt;
use utoipa::ToSchema;

/// An amount of whole Korean won. Differences may be negative; prices and balances are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
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

impl<'de> Deserialize<'de> for Won {
    /// A fraction gets a problem of its own, because won have none.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Won, D::Error> {
        struct WholeWon;
        impl Visitor<'_> for WholeWon {
            type Value = Won;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("i64")
            }
            fn visit_i64<E: Error>(self, amount: i64) -> Result<Won, E> {
                Ok(Won(amount))
            }
            fn visit_u64<E: Error>(self, amount: u64) -> Result<Won, E> {
                i64::try_from(amount).map(Won).map_err(|_| E::invalid_value(Unexpected::Unsigned(amount), &self))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Won, E> {
                Err(E::custom("invalid-amount: must be whole won"))
            }
        }
        deserializer.deserialize_i64(WholeWon)
    }
}

/// Deserializes a plain number of won, with the problems of [`Won`].
pub fn whole_won<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Won::deserialize(deserializer).map(|won| won.0)
}

/// Like [`whole_won`], for a field that may be absent.
pub fn optional_whole_won<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::<Won>::deserialize(deserializer).map(|won| won.map(|won| won.0))
}

impl fmt::Display for Won {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // row 45
    #[test]
    fn a_fraction_of_won_is_refused_by_its_own_problem() {
        let refusal = |text: &str| serde_json::from_str::<Won>(text).expect_err("it is no amount").to_string();
        for fraction in ["0.5", "1.0", "1e3"] {
            assert!(refusal(fraction).starts_with("invalid-amount: "), "{fraction}");
        }
        assert!(refusal("9223372036854775808").starts_with("invalid value: integer"));
        assert!(refusal("\"5\"").starts_with("invalid type: string"));
        assert_eq!(serde_json::from_str::<[Won; 2]>("[-5, 9223372036854775807]").expect("whole numbers"), [Won(-5), Won(i64::MAX)]);
    }

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
