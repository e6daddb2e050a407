//! The limits of one charge (decision 7).

use contracts::{Code, Refusal, Won};

/// Least charge, as in the seeds.
pub const MIN_CHARGE: Won = Won(1_000);
/// Highest charge: far above any purchase, and far below an overflow of sums.
pub const MAX_CHARGE: Won = Won(100_000_000);

/// Checks that a charge is within its limits and a multiple of `unit` (1 for any amount, 1,000 for shops that sell charge notes).
pub fn check_charge(amount: Won, unit: Won) -> Result<(), Refusal> {
    if amount < MIN_CHARGE {
        return Err(Refusal::new(Code::ChargeTooSmall, format!("A charge is at least {MIN_CHARGE} won")));
    }
    if amount > MAX_CHARGE {
        return Err(Refusal::new(Code::AmountOutOfRange, format!("A charge is at most {MAX_CHARGE} won")));
    }
    if unit.0 > 1 && amount.0 % unit.0 != 0 {
        return Err(Refusal::new(Code::InvalidField, format!("A charge is a multiple of {unit} won")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(amount: i64, unit: i64) -> Option<Code> {
        check_charge(Won(amount), Won(unit)).err().map(|refusal| refusal.code)
    }

    // B1
    #[test]
    fn a_charge_is_at_least_a_thousand_and_a_multiple_of_the_unit() {
        assert_eq!(code(1_000, 1), None);
        assert_eq!(code(999, 1), Some(Code::ChargeTooSmall));
        assert_eq!(code(-1_000, 1), Some(Code::ChargeTooSmall));
        assert_eq!(code(1_001, 1), None);
        assert_eq!(code(1_001, 1_000), Some(Code::InvalidField));
        assert_eq!(code(3_000, 1_000), None);
        assert_eq!(code(100_000_000, 1_000), None);
        assert_eq!(code(100_000_001, 1), Some(Code::AmountOutOfRange));
    }
}
