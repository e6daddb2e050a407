//! The checkout saga as data: which steps an order goes through, and what undoes each.

use contracts::messages::StockPolicy;

/// A step of the itinerary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Hold lines of policy `reserve_on_order`, check the others.
    StockReserve,
    CouponHold,
    PointsHold,
    /// Not a participant: the saga rests until the buyer pays.
    AwaitPayment,
    /// Take lines of policy `deduct_on_payment`.
    StockTake,
    Payment,
}

impl Step {
    pub const ALL: &'static [Step] =
        &[Step::StockReserve, Step::CouponHold, Step::PointsHold, Step::AwaitPayment, Step::StockTake, Step::Payment];

    pub fn as_str(self) -> &'static str {
        match self {
            Step::StockReserve => "stock.reserve",
            Step::CouponHold => "coupon.hold",
            Step::PointsHold => "points.hold",
            Step::AwaitPayment => "await.payment",
            Step::StockTake => "stock.take",
            Step::Payment => "payment.request",
        }
    }

    pub fn parse(text: &str) -> Option<Step> {
        Step::ALL.iter().copied().find(|step| step.as_str() == text)
    }

    /// Whether an undo message of its own exists. `stock.release` undoes both stock steps and is sent for the first of them.
    pub fn has_undo(self) -> bool {
        !matches!(self, Step::AwaitPayment | Step::StockTake)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    Do,
    Undo,
}

impl StepKind {
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Do => "DO",
            StepKind::Undo => "UNDO",
        }
    }
}

/// What the saga itself is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaState {
    /// A step was asked for and has not answered.
    Running,
    /// Rests until the buyer pays.
    Waiting,
    /// Steps are being undone, last one first.
    Undoing,
    Done,
    Undone,
}

impl SagaState {
    pub fn as_str(self) -> &'static str {
        match self {
            SagaState::Running => "RUNNING",
            SagaState::Waiting => "WAITING",
            SagaState::Undoing => "UNDOING",
            SagaState::Done => "DONE",
            SagaState::Undone => "UNDONE",
        }
    }
    pub fn parse(text: &str) -> Option<SagaState> {
        match text {
            "RUNNING" => Some(SagaState::Running),
            "WAITING" => Some(SagaState::Waiting),
            "UNDOING" => Some(SagaState::Undoing),
            "DONE" => Some(SagaState::Done),
            "UNDONE" => Some(SagaState::Undone),
            _ => None,
        }
    }
}

/// The steps an order of this kind goes through, in order (decision 3).
pub fn itinerary(policies: impl Iterator<Item = StockPolicy>, coupons: bool, points: bool, paid_inline: bool) -> Vec<Step> {
    let mut steps = vec![Step::StockReserve];
    if coupons {
        steps.push(Step::CouponHold);
    }
    if points {
        steps.push(Step::PointsHold);
    }
    if !paid_inline {
        steps.push(Step::AwaitPayment);
    }
    if policies.into_iter().any(|policy| policy == StockPolicy::DeductOnPayment) {
        steps.push(Step::StockTake);
    }
    steps.push(Step::Payment);
    steps
}
