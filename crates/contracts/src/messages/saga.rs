//! The macro `saga!`, whose table of the checkout saga's steps stands beside the table of messages.
//!
//! A row names the service that executes the step, and the step's messages. The table makes the requests, undos and commits, decodes the
//! answers, and lists the kinds that each service reads. The order of the steps is the itinerary of the orders service.
//!
//! The step's request has the same name as its payload, and the same text as the step.

mod answer_data;

use super::{Kind, Message, ORCHESTRATOR, RoutingSlip, SLIPS, SagaStep, SlipStep};
use crate::{OrderId, PaymentId, Refusal};
use serde::{Deserialize, Serialize};

pub(super) use answer_data::{DoneData, RefusedData, RequestOfOrder};

/// Messages of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepMessages {
    pub step: SagaStep,
    /// The service that executes the step.
    pub service: &'static str,
    /// The request, the undo and the commit. The participant reads them.
    pub commands: &'static [Kind],
    /// Done, refused and undone. The orders service reads them.
    pub answers: &'static [Kind],
}

/// Part that a command, or a slip, asks a service to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagaTask<R> {
    pub order_id: OrderId,
    pub action: SagaAction<R>,
}

/// Action on a step. `R`: the requests of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagaAction<R> {
    Do(R),
    Undo(SagaStep),
    /// The order is paid: what it holds becomes final. Has no answer.
    Commit,
}

/// Result of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum StepOutcome {
    Done,
    Refused(Refusal),
    Undone,
}

/// Answer of a participant, from a message or from an entry of a slip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaAnswer {
    pub step: SagaStep,
    /// The attempt that was done or refused. `None`: the step is no payment, or it was undone.
    pub payment_id: Option<PaymentId>,
    pub outcome: StepOutcome,
}

/// The requests of one service's steps, borrowed from a message.
pub trait ServiceRequest<'m>: Copy {
    const SERVICE: &'static str;

    /// `None`: another service executes the step.
    fn in_slip(step: &'m SlipStep) -> Option<Self>;

    /// Decodes a message of an orchestrated order. `None`: it is no command to this service.
    fn in_command(message: &'m Message) -> Option<SagaTask<Self>>;

    /// The answer to the command.
    fn answer(self, result: Result<(), Refusal>) -> Message;

    /// The message with which the service passes a slip on.
    fn pass_on(slip: RoutingSlip) -> Message;
}

macro_rules! saga {
    (
        orchestrator $orchestrator:literal passes on $first_slip:ident;
        $($(#[$pause_doc:meta])* pause $pause:ident = $pause_text:literal;)*
        $(service $service:literal executes $requests:ident passes on $slip:ident {
            $($(#[$doc:meta])* $name:ident($request:ident) = $text:literal {
                done: $done:ident, refused: $refused:ident
                $(, undo: $undo:ident, undone: $undone:ident)?
                $(, undone_with: $with:ident)?
                $(, commit: $commit:ident)?
            })*
        })*
    ) => {
        /// The service that starts the slips and reads the answers.
        pub const ORCHESTRATOR: &str = $orchestrator;

        /// A step of the itinerary.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SagaStep {
            $($(#[$pause_doc])* $pause,)*
            $($($(#[$doc])* $name,)*)*
        }

        impl SagaStep {
            pub const ALL: &'static [SagaStep] = &[$(SagaStep::$pause,)* $($(SagaStep::$name,)*)*];

            /// The messages of all steps that a participant executes.
            pub const MESSAGES: &'static [StepMessages] = &[$($(StepMessages {
                step: SagaStep::$name,
                service: $service,
                commands: &[Kind::$request, $(Kind::$undo,)? $(Kind::$commit,)?],
                answers: &[Kind::$done, Kind::$refused, $(Kind::$undone,)?],
            },)*)*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(SagaStep::$pause => $pause_text,)*
                    $($(SagaStep::$name => $text,)*)*
                }
            }

            const fn undo_kind(self) -> Option<Kind> {
                match self {
                    $($($(SagaStep::$name => Some(Kind::$undo),)?)*)*
                    _ => None,
                }
            }

            /// The command that undoes the step. `None`: the step has no undo of its own.
            pub const fn undo(self, order_id: OrderId) -> Option<Message> {
                match self {
                    $($($(SagaStep::$name => Some(Message::$undo(StepCommand { order_id })),)?)*)*
                    _ => None,
                }
            }

            /// The answer to the undo.
            pub const fn undone(self, order_id: OrderId) -> Option<Message> {
                match self {
                    $($($(SagaStep::$name => Some(Message::$undone(StepDone { order_id })),)?)*)*
                    _ => None,
                }
            }

            /// The step whose undo undoes this step, too.
            pub const fn undone_with(self) -> Option<SagaStep> {
                match self {
                    $($($(SagaStep::$name => Some(SagaStep::$with),)?)*)*
                    _ => None,
                }
            }

            /// The command that makes the step of a paid order final. `None`: nothing is to do.
            pub const fn commit(self, order_id: OrderId) -> Option<Message> {
                match self {
                    $($($(SagaStep::$name => Some(Message::$commit(StepCommand { order_id })),)?)*)*
                    _ => None,
                }
            }
        }

        /// A step of a slip, with the same request as the command of that name in an orchestrated checkout.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "step", content = "ask")]
        pub enum SlipStep {
            $($(
                #[serde(rename = $text)]
                $name($request),
            )*)*
        }

        impl SlipStep {
            pub const fn step(&self) -> SagaStep {
                match self { $($(SlipStep::$name(_) => SagaStep::$name,)*)* }
            }

            /// The service that executes the step.
            pub const fn service(&self) -> &'static str {
                match self { $($(SlipStep::$name(_) => $service,)*)* }
            }
        }

        impl From<SlipStep> for Message {
            /// The command with the same request.
            fn from(step: SlipStep) -> Message {
                match step { $($(SlipStep::$name(request) => Message::$request(request),)*)* }
            }
        }

        $($(impl RequestOfOrder for $request {
            fn order_id(&self) -> OrderId {
                self.order_id
            }
        })*)*

        $(
            #[doc = concat!("Requests of the steps that ", $service, " executes.")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $requests<'m> { $($name(&'m $request),)* }

            impl<'m> ServiceRequest<'m> for $requests<'m> {
                const SERVICE: &'static str = $service;

                fn in_slip(step: &'m SlipStep) -> Option<Self> {
                    match step {
                        $(SlipStep::$name(request) => Some(Self::$name(request)),)*
                        _ => None,
                    }
                }

                fn in_command(message: &'m Message) -> Option<SagaTask<Self>> {
                    let (order_id, action) = match message {
                        $(
                            Message::$request(request) => (request.order_id, SagaAction::Do(Self::$name(request))),
                            $(Message::$undo(command) => (command.order_id, SagaAction::Undo(SagaStep::$name)),)?
                            $(Message::$commit(command) => (command.order_id, SagaAction::Commit),)?
                        )*
                        _ => return None,
                    };
                    Some(SagaTask { order_id, action })
                }

                fn answer(self, result: Result<(), Refusal>) -> Message {
                    match (self, result) {
                        $(
                            (Self::$name(request), Ok(())) => Message::$done(DoneData::answer_to(request)),
                            (Self::$name(request), Err(refusal)) => Message::$refused(RefusedData::answer_to(request, refusal)),
                        )*
                    }
                }

                fn pass_on(slip: RoutingSlip) -> Message {
                    Message::$slip(slip)
                }
            }
        )*

        impl SagaAnswer {
            /// Decodes an answer to a command. `None`: the message is none.
            pub fn in_message(message: &Message) -> Option<SagaAnswer> {
                Some(match message {
                    $($(
                        Message::$done(data) => {
                            let payment_id = DoneData::<$request>::payment_id(data);
                            SagaAnswer { step: SagaStep::$name, payment_id, outcome: StepOutcome::Done }
                        }
                        Message::$refused(data) => {
                            let (payment_id, refusal) =
                                (RefusedData::<$request>::payment_id(data), RefusedData::<$request>::refusal(data));
                            SagaAnswer { step: SagaStep::$name, payment_id, outcome: StepOutcome::Refused(refusal) }
                        }
                        $(Message::$undone(_) => {
                            SagaAnswer { step: SagaStep::$name, payment_id: None, outcome: StepOutcome::Undone }
                        })?
                    )*)*
                    _ => return None,
                })
            }
        }

        impl Message {
            /// The routing slip in this message, from any service.
            pub const fn slip(&self) -> Option<&RoutingSlip> {
                match self {
                    Message::$first_slip(slip) $(| Message::$slip(slip))* => Some(slip),
                    _ => None,
                }
            }
        }

        /// The services that pass slips on, and the kinds with which they do.
        pub const SLIPS: &[(&str, Kind)] = &[($orchestrator, Kind::$first_slip), $(($service, Kind::$slip),)*];
    };
}

impl SagaStep {
    pub fn parse(text: &str) -> Option<SagaStep> {
        SagaStep::ALL.iter().copied().find(|step| step.as_str() == text)
    }

    /// The step has an undo message of its own.
    pub const fn has_undo(self) -> bool {
        self.undo_kind().is_some()
    }
}

impl SagaAnswer {
    /// The answer in an entry of a slip.
    pub fn in_slip(step: &SlipStep, outcome: &StepOutcome) -> SagaAnswer {
        let payment_id = match step {
            SlipStep::Payment(request) => Some(request.payment_id).filter(|_| *outcome != StepOutcome::Undone),
            _ => None,
        };
        SagaAnswer { step: step.step(), payment_id, outcome: outcome.clone() }
    }
}

/// The kinds that a service reads: those of the saga and its `own`, in the order of the table of messages. A participant reads the
/// commands of its steps, and orders all answers. Each reads the slips of the others.
pub fn saga_reads(service: &str, own: &[Kind]) -> Vec<Kind> {
    let commands = SagaStep::MESSAGES.iter().filter(|row| row.service == service).flat_map(|row| row.commands);
    let answers = SagaStep::MESSAGES.iter().filter(|_| service == ORCHESTRATOR).flat_map(|row| row.answers);
    let slips = SLIPS.iter().filter(|(writer, _)| *writer != service).map(|(_, kind)| kind);
    let read: Vec<Kind> = commands.chain(answers).chain(slips).chain(own).copied().collect();
    Kind::ALL.iter().copied().filter(|kind| read.contains(kind)).collect()
}

#[cfg(test)]
mod tests;
