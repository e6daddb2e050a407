//! The reservation of an order: the state of its lines, and the outcomes of its saga steps.

use contracts::{Code, OrderId, Refusal, Sku, Timestamp};

/// ReservationState of an order in stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationState {
    /// The lines are held, or were available when checked if they are held only at payment.
    Held,
    /// Paid: the held units are sold.
    Committed,
    /// Undone before payment.
    Released,
    /// Undone after payment: the sold units were returned.
    Returned,
    /// The first step was refused, so nothing was ever held.
    Refused,
    /// Undone before its first step: a later step is refused.
    Tombstone,
}

impl ReservationState {
    const ALL: [ReservationState; 6] = [
        ReservationState::Held,
        ReservationState::Committed,
        ReservationState::Released,
        ReservationState::Returned,
        ReservationState::Refused,
        ReservationState::Tombstone,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            ReservationState::Held => "HELD",
            ReservationState::Committed => "COMMITTED",
            ReservationState::Released => "RELEASED",
            ReservationState::Returned => "RETURNED",
            ReservationState::Refused => "REFUSED",
            ReservationState::Tombstone => "TOMBSTONE",
        }
    }

    pub fn parse(text: &str) -> Option<ReservationState> {
        ReservationState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    Active,
    Committed,
    Released,
}

impl LineState {
    pub fn as_str(self) -> &'static str {
        match self {
            LineState::Active => "ACTIVE",
            LineState::Committed => "COMMITTED",
            LineState::Released => "RELEASED",
        }
    }
}

/// Units of one SKU for one line of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationLine {
    pub line_no: u32,
    pub sku: Sku,
    pub quantity: i64,
    pub state: LineState,
    /// ReservationState of the hold in the database. `None`: no row.
    pub stored: Option<LineState>,
}

impl ReservationLine {
    /// Records that the hold is saved. A hold that began and ended in the transaction has no row.
    pub fn mark_saved(&mut self) {
        if self.stored.is_some() || self.state == LineState::Active {
            self.stored = Some(self.state);
        }
    }
}

/// Recorded outcome of a saga step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StockStepOutcome {
    Done,
    Refused(Refusal),
}

/// A saga step that may hold units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StockStep {
    Reserve,
    Take,
}

/// The reservation of an order, with the outcomes of its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub order_id: OrderId,
    pub state: ReservationState,
    pub reserve: Option<StockStepOutcome>,
    pub take: Option<StockStepOutcome>,
    /// Deadline by which the saga should have ended the hold.
    pub expires_at: Option<Timestamp>,
    /// While held: the active holds. Once committed: the sold lines.
    pub lines: Vec<ReservationLine>,
}

impl Reservation {
    pub(super) fn tombstone(order_id: OrderId) -> Self {
        Self { order_id, state: ReservationState::Tombstone, reserve: None, take: None, expires_at: None, lines: Vec::new() }
    }

    /// A reservation whose first step had this outcome.
    pub(super) fn started(order_id: OrderId, outcome: &StockStepOutcome) -> Self {
        let state = match outcome {
            StockStepOutcome::Done => ReservationState::Held,
            StockStepOutcome::Refused(_) => ReservationState::Refused,
        };
        Self { state, ..Self::tombstone(order_id) }
    }

    /// The outcome of a step that is a repeat or comes too late. `None`: the step is still to be decided.
    pub(super) fn known_outcome(&self, step: StockStep) -> Option<StockStepOutcome> {
        let recorded = match step {
            StockStep::Reserve => &self.reserve,
            StockStep::Take => &self.take,
        };
        if recorded.is_some() {
            return recorded.clone();
        }
        match self.state {
            ReservationState::Held => None,
            ReservationState::Refused => self.refusal().cloned().map(StockStepOutcome::Refused),
            ReservationState::Committed | ReservationState::Released | ReservationState::Returned | ReservationState::Tombstone => {
                Some(StockStepOutcome::Refused(Refusal::new(Code::StepTimedOut, "The order was settled before its stock was asked for")))
            }
        }
    }

    /// Records the outcome of a step. At most one step of an order is ever recorded as refused.
    pub(super) fn record(&mut self, step: StockStep, outcome: StockStepOutcome, expires_at: Timestamp) {
        self.expires_at = self.expires_at.max(Some(expires_at));
        match step {
            StockStep::Reserve => self.reserve = Some(outcome),
            StockStep::Take => self.take = Some(outcome),
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        [&self.reserve, &self.take].into_iter().find_map(|step| match step {
            Some(StockStepOutcome::Refused(refusal)) => Some(refusal),
            _ => None,
        })
    }
}
