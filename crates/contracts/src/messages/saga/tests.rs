use super::*;
use crate::{
    Code, MemberId, SERVICES, Timestamp, Won,
    messages::{
        CouponHold, PaymentMethod, PaymentRequest, PointsHold, RequestToCoupons, RequestToPayments, RequestToStock, RequestToWallet,
        StockReserve, StockTake,
    },
};
use uuid::Uuid;

const ORDER: OrderId = OrderId(Uuid::from_u128(1));

/// One step of each kind.
fn steps() -> Vec<SlipStep> {
    let (member_id, expires_at) = (MemberId(Uuid::from_u128(2)), Timestamp(9));
    let (payment_id, method) = (PaymentId(Uuid::from_u128(3)), PaymentMethod::Wallet);
    vec![
        SlipStep::StockReserve(StockReserve { order_id: ORDER, reserve: vec![], check_only: vec![], expires_at }),
        SlipStep::CouponHold(CouponHold { order_id: ORDER, member_id, coupons: vec![], expires_at }),
        SlipStep::PointsHold(PointsHold { order_id: ORDER, member_id, amount: Won(1), expires_at }),
        SlipStep::StockTake(StockTake { order_id: ORDER, lines: vec![], expires_at }),
        SlipStep::Payment(PaymentRequest { order_id: ORDER, payment_id, member_id, amount: Won(2), method, token: None }),
    ]
}

/// (type, writing service) of a kind.
fn table_row(kind: Kind) -> (&'static str, &'static str) {
    let row = Message::TABLE.iter().find(|(text, ..)| *text == kind.as_str()).expect("every kind is in the table of messages");
    (row.0, row.1)
}

#[test]
fn commands_are_written_by_orders_and_answers_by_participants() {
    assert_eq!(SagaStep::MESSAGES.len(), steps().len());
    for row in SagaStep::MESSAGES {
        assert!(SERVICES.contains(&row.service), "{}", row.service);
        assert_eq!(table_row(row.commands[0]), (row.step.as_str(), ORCHESTRATOR), "the request has the text of the step");
        assert!(row.commands.iter().all(|kind| table_row(*kind).1 == ORCHESTRATOR), "{row:?}");
        assert!(row.answers.iter().all(|kind| table_row(*kind).1 == row.service), "{row:?}");
        assert_eq!(SagaStep::parse(row.step.as_str()), Some(row.step));
    }
    assert_eq!((SagaStep::parse("await.payment"), SagaStep::parse("no.such")), (Some(SagaStep::AwaitPayment), None));
    let slips: Vec<_> = SLIPS.iter().map(|(writer, kind)| (table_row(*kind).1, *writer)).collect();
    assert!(slips.iter().all(|(in_table, writer)| in_table == writer), "{slips:?}");
}

#[test]
fn every_executed_step_is_undone_by_itself_or_with_another() {
    for step in SagaStep::ALL {
        let (undo, undone) = (step.undo(ORDER), step.undone(ORDER));
        assert_eq!((undo.is_some(), undone.is_some()), (step.has_undo(), step.has_undo()), "{step:?}");
        let is_executed = SagaStep::MESSAGES.iter().any(|row| row.step == *step);
        assert_eq!(is_executed, step.has_undo() != step.undone_with().is_some_and(SagaStep::has_undo), "{step:?}");
    }
    assert_eq!(SagaStep::StockTake.undone_with(), Some(SagaStep::StockReserve));
    assert_eq!(SagaStep::Payment.undo(ORDER).as_ref().map(Message::kind), Some("payment.cancel"));
    let commits = SagaStep::ALL.iter().filter_map(|step| step.commit(ORDER)).map(|message| message.kind()).collect::<Vec<_>>();
    assert_eq!(commits, ["stock.commit", "coupon.use", "points.use"]);
}

// G3
#[test]
fn each_service_reads_its_commands_and_the_others_slips() {
    let texts = |kinds: Vec<Kind>| kinds.into_iter().map(Kind::as_str).collect::<Vec<_>>().join(" ");
    let stock = "stock.reserve stock.take stock.release stock.commit orders.slip coupons.slip wallet.slip payments.slip skus.listed";
    assert_eq!(texts(saga_reads("stock", &[Kind::SkusListed])), stock);
    assert_eq!(texts(saga_reads("payments", &[])), "payment.request payment.cancel orders.slip stock.slip coupons.slip wallet.slip");
    let orders = "stock.reserved stock.refused stock.taken stock.take_refused stock.released stock.slip coupon.held coupon.refused \
                  coupon.released coupons.slip points.held points.refused points.released wallet.slip payment.approved payment.failed \
                  payment.cancelled payments.slip";
    assert_eq!(texts(saga_reads("orders", &[])), orders);
    for (service, own) in SLIPS {
        let read = saga_reads(service, &[]);
        assert!(SLIPS.iter().all(|(_, kind)| read.contains(kind) == (kind != own)), "{service} reads {read:?}");
        assert!(
            SagaStep::MESSAGES.iter().filter(|row| row.service == *service).all(|row| row.commands.iter().all(|kind| read.contains(kind)))
        );
    }
}

/// The answer to the request of a step.
fn answer(step: &SlipStep, result: Result<(), Refusal>) -> Message {
    None.or_else(|| Some(RequestToStock::in_slip(step)?.answer(result.clone())))
        .or_else(|| Some(RequestToCoupons::in_slip(step)?.answer(result.clone())))
        .or_else(|| Some(RequestToWallet::in_slip(step)?.answer(result.clone())))
        .or_else(|| Some(RequestToPayments::in_slip(step)?.answer(result.clone())))
        .expect("one service executes the step")
}

#[test]
fn an_answer_says_the_same_as_the_entry_of_a_slip() {
    for step in steps() {
        let row = SagaStep::MESSAGES.iter().find(|row| row.step == step.step()).expect("it is executed");
        assert_eq!(step.service(), row.service);
        for (result, outcome) in
            [(Ok(()), StepOutcome::Done), (Err(Code::OutOfStock.into()), StepOutcome::Refused(Code::OutOfStock.into()))]
        {
            let message = answer(&step, result);
            assert_eq!(message.source(), row.service);
            assert_eq!(SagaAnswer::in_message(&message), Some(SagaAnswer::in_slip(&step, &outcome)));
        }
        if let Some(undone) = step.step().undone(ORDER) {
            assert_eq!(SagaAnswer::in_message(&undone), Some(SagaAnswer::in_slip(&step, &StepOutcome::Undone)));
        }
        assert_eq!(SagaAnswer::in_message(&step.into()), None, "a command is no answer");
    }
}

// Y1: slips and requests in the database stay readable.
#[test]
fn the_stored_form_of_every_step_stays_the_same() {
    let (order, member) = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");
    let at = "1970-01-01T00:00:00.000009Z";
    let expected = [
        format!(r#"{{"step":"stock.reserve","ask":{{"order_id":"{order}","reserve":[],"check_only":[],"expires_at":"{at}"}}}}"#),
        format!(r#"{{"step":"coupon.hold","ask":{{"order_id":"{order}","member_id":"{member}","coupons":[],"expires_at":"{at}"}}}}"#),
        format!(r#"{{"step":"points.hold","ask":{{"order_id":"{order}","member_id":"{member}","amount":1,"expires_at":"{at}"}}}}"#),
        format!(r#"{{"step":"stock.take","ask":{{"order_id":"{order}","lines":[],"expires_at":"{at}"}}}}"#),
        format!(
            r#"{{"step":"payment.request","ask":{{"order_id":"{order}","payment_id":"00000000-0000-0000-0000-000000000003","member_id":"{member}","amount":2,"method":"wallet"}}}}"#
        ),
    ];
    for (step, expected) in steps().iter().zip(&expected) {
        assert_eq!(&serde_json::to_string(step).expect("plain data encodes"), expected);
        assert_eq!(&serde_json::from_str::<SlipStep>(expected).expect("a stored step decodes"), step);
    }
    let slip = RoutingSlip::forward(ORDER, 4, vec![], 0, true);
    let text = format!(r#"{{"order_id":"{order}","run":4,"stops":[],"way":"forward","next":null,"payable_again":true,"log":[]}}"#);
    assert_eq!(slip.encode().expect("plain data encodes"), text);
    let outcomes = [StepOutcome::Done, StepOutcome::Refused(Code::OutOfStock.into()), StepOutcome::Undone]
        .map(|outcome| serde_json::to_value(outcome).expect("plain data encodes")["outcome"].as_str().map(str::to_owned));
    assert_eq!(outcomes, ["done", "refused", "undone"].map(|text| Some(text.to_owned())));
}
