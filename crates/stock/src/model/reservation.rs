use contracts::{Code, OrderId, Refusal, Sku, Timestamp};

/// Where an order stands with stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its lines are held, or were found available where nothing is held before payment.
    Held,
    /// Paid: what was held is sold.
    Committed,
    /// Undone before payment.
    Released,
    /// Undone after payment: what was sold came back.
    Returned,
    /// The first step was refused; nothing was ever held.
    Refused,
    /// Undone before anything was asked for: a late step is refused.
    Tombstone,
}

impl State {
    const ALL: [State; 6] = [State::Held, State::Committed, State::Released, State::Returned, State::Refused, State::Tombstone];

    pub fn as_str(self) -> &'static str {
        match self {
            State::Held => "HELD",
            State::Committed => "COMMITTED",
            State::Released => "RELEASED",
            State::Returned => "RETURNED",
            State::Refused => "REFUSED",
            State::Tombstone => "TOMBSTONE",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
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
pub struct Line {
    pub line_no: u32,
    pub sku: Sku,
    pub quantity: i64,
    pub state: LineState,
    /// What the database says of the hold; `None` when it has no row.
    pub stored: Option<LineState>,
}

/// How a step ended, the first time it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Done,
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Reserve,
    Take,
}

/// All that stock knows of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub order_id: OrderId,
    pub state: State,
    pub reserve: Option<Step>,
    pub take: Option<Step>,
    /// When the order should have come back for what it holds.
    pub expires_at: Option<Timestamp>,
    /// While held: the active holds. Once committed: what was sold.
    pub lines: Vec<Line>,
}

impl Reservation {
    pub(super) fn tombstone(order_id: OrderId) -> Self {
        Self { order_id, state: State::Tombstone, reserve: None, take: None, expires_at: None, lines: Vec::new() }
    }

    /// A reservation whose first step ended with `step`.
    pub(super) fn begun(order_id: OrderId, step: &Step) -> Self {
        let state = match step {
            Step::Done => State::Held,
            Step::Refused(_) => State::Refused,
        };
        Self { state, ..Self::tombstone(order_id) }
    }

    /// What this step is told without looking at the shelves: it was asked for before, or it comes too late. `None`: to be decided.
    pub(super) fn settled(&self, ask: Ask) -> Option<Step> {
        let recorded = match ask {
            Ask::Reserve => &self.reserve,
            Ask::Take => &self.take,
        };
        if recorded.is_some() {
            return recorded.clone();
        }
        match self.state {
            State::Held => None,
            State::Refused => self.refusal().cloned().map(Step::Refused),
            State::Committed | State::Released | State::Returned | State::Tombstone => {
                Some(Step::Refused(Refusal::new(Code::StepTimedOut, "The order was settled before its stock was asked for")))
            }
        }
    }

    /// Remembers how a step ended. At most one step of an order is ever recorded as refused.
    pub(super) fn record(&mut self, ask: Ask, step: Step, expires_at: Timestamp) {
        self.expires_at = self.expires_at.max(Some(expires_at));
        match ask {
            Ask::Reserve => self.reserve = Some(step),
            Ask::Take => self.take = Some(step),
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        [&self.reserve, &self.take].into_iter().find_map(|step| match step {
            Some(Step::Refused(refusal)) => Some(refusal),
            _ => None,
        })
    }
}
