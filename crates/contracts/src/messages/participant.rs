//! The driver of a saga participant: finds the participant's tasks in a message, and writes the answers.
//!
//! An orchestrated order sends a command and gets an answer message. A choreographed order sends a slip, which gets the result and is
//! passed on. The participant acts in the same way on both. The driver does no IO.

use super::{
    Message, RoutingSlip, SagaStep,
    saga::{SagaAction, SagaTask, ServiceRequest},
    slip::Direction,
};
use crate::{OrderId, Refusal, Timestamp};

/// A service that executes its steps at once, on rows in memory. A service that answers later uses [`saga_tasks`],
/// [`reply_result`] and [`reply_undone`].
pub trait Participant {
    /// The requests of its steps.
    type Request<'m>: ServiceRequest<'m>;
    type Error;

    /// Does a step once, all or nothing. A repeat returns the first result. A step whose undo came first is refused.
    fn execute(&mut self, request: Self::Request<'_>, now: Timestamp) -> Result<Result<(), Refusal>, Self::Error>;

    /// Undoes everything that the order has at this service. Without a prior step it leaves a tombstone.
    fn undo(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), Self::Error>;

    /// Makes everything final that the order holds at this service. It is too late to refuse.
    fn commit(&mut self, order_id: OrderId, now: Timestamp) -> Result<(), Self::Error>;
}

/// The tasks in a message for the service of `R`. In a slip: its next steps up to the first one of another service.
pub fn saga_tasks<'m, R: ServiceRequest<'m>>(message: &'m Message) -> impl Iterator<Item = SagaTask<R>> {
    let in_slip = message.slip().into_iter().flat_map(RoutingSlip::next_tasks::<R>);
    R::in_command(message).into_iter().chain(in_slip)
}

/// Executes the tasks in a message, and returns the answer to emit. `None`: there is no task, or no answer to it.
pub fn execute_tasks<P: Participant>(participant: &mut P, message: &Message, now: Timestamp) -> Result<Option<Message>, P::Error> {
    if let Some(slip) = message.slip() {
        return advance_slip(participant, slip, now);
    }
    let Some(task) = <P::Request<'_>>::in_command(message) else { return Ok(None) };
    match task.action {
        SagaAction::Do(request) => Ok(Some(request.answer(participant.execute(request, now)?))),
        SagaAction::Undo(step) => {
            participant.undo(task.order_id, now)?;
            Ok(step.undone(task.order_id))
        }
        SagaAction::Commit => {
            participant.commit(task.order_id, now)?;
            Ok(None)
        }
    }
}

/// Executes the next steps of a slip that are this participant's. Neighbours are executed at once.
fn advance_slip<P: Participant>(participant: &mut P, slip: &RoutingSlip, now: Timestamp) -> Result<Option<Message>, P::Error> {
    if slip.next_step(<P::Request<'_>>::SERVICE).is_none() {
        return Ok(None);
    }
    let mut slip = slip.clone();
    while let Some((direction, request)) = slip.next_request::<P::Request<'_>>() {
        match direction {
            Direction::Forward => {
                let result = participant.execute(request, now)?;
                slip.record_result(result, now);
            }
            Direction::Back => {
                participant.undo(slip.order_id, now)?;
                slip.record_undone(now);
            }
        }
    }
    Ok(Some(<P::Request<'_>>::pass_on(slip)))
}

/// The answer to a request. `slip`: the slip in which it came, if any.
pub fn reply_result<'m, R: ServiceRequest<'m>>(
    request: R,
    slip: Option<&RoutingSlip>,
    result: Result<(), Refusal>,
    now: Timestamp,
) -> Message {
    let Some(slip) = slip else { return request.answer(result) };
    let mut slip = slip.clone();
    slip.record_result(result, now);
    R::pass_on(slip)
}

/// The answer to an undo. `None`: the step has no undo.
pub fn reply_undone<'m, R: ServiceRequest<'m>>(
    step: SagaStep,
    order_id: OrderId,
    slip: Option<&RoutingSlip>,
    now: Timestamp,
) -> Option<Message> {
    let Some(slip) = slip else { return step.undone(order_id) };
    let mut slip = slip.clone();
    slip.record_undone(now);
    Some(R::pass_on(slip))
}

#[cfg(test)]
mod tests;
