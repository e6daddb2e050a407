//! The checkout saga as data: the steps of an order, and their undos.

use contracts::messages::StockPolicy;

/// A step of the itinerary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SagaStep {
    /// Reserves lines of policy `reserve_on_order`, and checks the others.
    StockReserve,
    CouponHold,
    PointsHold,
    /// Waits for the buyer to pay. No participant acts.
    AwaitPayment,
    /// Takes lines of policy `deduct_on_payment`.
    StockTake,
    Payment,
}

impl SagaStep {
    pub const ALL: &'static [SagaStep] = &[
        SagaStep::StockReserve,
        SagaStep::CouponHold,
        SagaStep::PointsHold,
        SagaStep::AwaitPayment,
        SagaStep::StockTake,
        SagaStep::Payment,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            SagaStep::StockReserve => "stock.reserve",
            SagaStep::CouponHold => "coupon.hold",
            SagaStep::PointsHold => "points.hold",
            SagaStep::AwaitPayment => "await.payment",
            SagaStep::StockTake => "stock.take",
            SagaStep::Payment => "payment.request",
        }
    }

    pub fn parse(text: &str) -> Option<SagaStep> {
        SagaStep::ALL.iter().copied().find(|step| step.as_str() == text)
    }

    /// The step has an undo message of its own. `stock.release` undoes both stock steps and belongs to the first one.
    pub fn has_undo(self) -> bool {
        !matches!(self, SagaStep::AwaitPayment | SagaStep::StockTake)
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

/// State of the saga itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaState {
    /// A step was requested and is not answered yet.
    Running,
    /// At rest until the buyer pays.
    Waiting,
    /// Steps are being undone, the last one first.
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

/// The steps of an order, in execution order (decision 3). `paid_inline`: the payment comes with the order.
pub fn itinerary(policies: impl Iterator<Item = StockPolicy>, coupons: bool, points: bool, paid_inline: bool) -> Vec<SagaStep> {
    let mut steps = vec![SagaStep::StockReserve];
    if coupons {
        steps.push(SagaStep::CouponHold);
    }
    if points {
        steps.push(SagaStep::PointsHold);
    }
    if !paid_inline {
        steps.push(SagaStep::AwaitPayment);
    }
    if policies.into_iter().any(|policy| policy == StockPolicy::DeductOnPayment) {
        steps.push(SagaStep::StockTake);
    }
    steps.push(SagaStep::Payment);
    steps
}
