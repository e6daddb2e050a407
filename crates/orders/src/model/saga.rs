//! The checkout saga as data: the state of a saga, and the steps of an order.

use contracts::messages::{SagaStep, StockPolicy};

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
