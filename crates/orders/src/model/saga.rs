//! The state of a checkout saga as data.

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
