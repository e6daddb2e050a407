//! Faults in the ledger and in payments.

use super::{PlantedFault, fault};
use testkit::Shape;

pub fn planted_faults() -> Vec<PlantedFault> {
    [ledger(), chains(), payments()].into_iter().flatten().collect()
}

fn ledger() -> Vec<PlantedFault> {
    const ACCOUNTS: &[&str] = &["wallet_accounts"];
    const ENTRIES: &[&str] = &["wallet_entries"];
    vec![
        fault("I-L1", ENTRIES, "update wallet_entries set amount=amount+1 where owner_id={buyer} and kind='CASH' and n=1", " 1"),
        fault("I-L2", ACCOUNTS, "update wallet_accounts set balance=balance+1 where owner_id={buyer} and kind='CASH'", "{buyer} CASH"),
        fault("I-L2", ACCOUNTS, "update wallet_accounts set entries=entries+1 where owner_id={buyer} and kind='CASH'", "{buyer} CASH"),
        fault("I-L2", ACCOUNTS, "update wallet_accounts set held=held+1 where owner_id={buyer} and kind='REWARD'", "{buyer} REWARD"),
        fault("I-L2", &[], "update wallet_holds set state='HELD' where order_id={paid}", "{buyer} REWARD"),
        // The last balance is right, but the first is wrong.
        fault(
            "I-L3",
            ENTRIES,
            "update wallet_entries set amount=amount-2000000 where owner_id={buyer} and kind='CASH' and n=1;
             update wallet_entries set amount=amount+2000000 where owner_id={buyer} and kind='CASH' and n=2",
            "{buyer} CASH 1",
        ),
        fault(
            "I-L3",
            ENTRIES,
            "update wallet_entries set amount=-amount where owner_id={buyer} and kind='REWARD' and n=1",
            "{buyer} REWARD 1",
        ),
        fault(
            "I-L5",
            &["wallet_transactions"],
            "insert into wallet_transactions select * from wallet_transactions where kind='pay' and order_id={paid}",
            "pay ",
        ),
    ]
}

fn chains() -> Vec<PlantedFault> {
    const ENTRIES: &[&str] = &["wallet_entries"];
    let mut faults: Vec<PlantedFault> = missing_guards();
    let first = "where owner_id={buyer} and kind='CASH' and n=1";
    faults.extend([
        fault("I-L4", ENTRIES, format!("update wallet_entries set amount=amount+1 {first}"), "{buyer} CASH entry 1: the chain is broken"),
        fault("I-L4", ENTRIES, format!("update wallet_entries set at=at+1 {first}"), "{buyer} CASH entry 1: the chain is broken"),
        fault("I-L4", ENTRIES, format!("update wallet_entries set hash=zeroblob(32) {first}"), "{buyer} CASH entry 2: the chain is broken"),
        fault("I-L4", ENTRIES, format!("delete from wallet_entries {first}"), "{buyer} CASH entry 2: the chain is broken"),
        fault(
            "I-L4",
            &["wallet_accounts"],
            "update wallet_accounts set head=zeroblob(32) where owner_id={buyer} and kind='CASH'",
            "{buyer} CASH: the head is not the last entry's hash",
        ),
        fault(
            "I-L4",
            ENTRIES,
            "delete from wallet_entries where owner_id={buyer} and kind='CASH' and n=(select entries from wallet_accounts
             where owner_id={buyer} and kind='CASH')",
            "{buyer} CASH: the head is not the last entry's hash",
        ),
    ]);
    faults
}

/// The triggers that keep the ledger append-only. The copy of another database lists the triggers in force there.
fn missing_guards() -> Vec<PlantedFault> {
    const SQLITE_GUARDS: [(&str, &str); 4] = [
        ("drop trigger wallet_entries_no_update", "wallet_entries_no_update is missing"),
        ("drop trigger wallet_entries_no_delete", "wallet_entries_no_delete is missing"),
        ("drop trigger wallet_transactions_no_update", "wallet_transactions_no_update is missing"),
        ("drop trigger wallet_transactions_no_delete", "wallet_transactions_no_delete is missing"),
    ];
    const POSTGRES_GUARDS: [(&str, &str); 4] = [
        ("delete from origin_triggers where name='wallet_entries_append_only'", "wallet_entries_append_only is missing"),
        ("delete from origin_triggers where name='wallet_entries_no_truncate'", "wallet_entries_no_truncate is missing"),
        ("delete from origin_triggers where name='wallet_transactions_append_only'", "wallet_transactions_append_only is missing"),
        ("delete from origin_triggers where name='wallet_transactions_no_truncate'", "wallet_transactions_no_truncate is missing"),
    ];
    let guards = if Shape::of_environment() == Shape::Solo { SQLITE_GUARDS } else { POSTGRES_GUARDS };
    guards.into_iter().map(|(drop, shows)| fault("I-L4", &[], drop, shows)).collect()
}

fn payments() -> Vec<PlantedFault> {
    const PAYMENTS: &[&str] = &["payments_payments"];
    let of = |order: &str| format!("(select provider_key from payments_payments where order_id={order})");
    let tested = of("{tested}");
    vec![
        fault(
            "I-P1",
            PAYMENTS,
            format!(
                "insert into book.psp_charges select 'another', 'another', order_ref, amount, token, captured, reason, 0, at from book.psp_charges
                  where psp_key={tested};
                 insert into payments_payments select zeroblob(16), order_id, member_id, method, amount, state, 'another', provider_ref, token, code,
                  detail, attempts, next_try_at, called_until, created_at, updated_at, captured_at, slip from payments_payments where order_id={{tested}}"
            ),
            "{tested} 2",
        ),
        fault("I-P2", &[], "update payments_refunds set amount=amount+1 where order_id={ended}", " "),
        fault("I-P2", &[], "update payments_refunds set amount=amount+1, state='PENDING' where order_id={ended_tested}", " "),
        fault("I-P3", &[], format!("delete from book.psp_charges where psp_key={tested}"), "APPROVED"),
        fault("I-P3", &[], format!("update book.psp_charges set amount=amount+1 where psp_key={tested}"), "APPROVED"),
        fault("I-P3", &[], format!("update book.psp_charges set captured=0 where psp_key={tested}"), "APPROVED"),
        fault("I-P3", &[], "update payments_payments set state='FAILED', code='x', captured_at=null where order_id={tested}", "only theirs"),
        fault("I-P3", &["wallet_transactions"], "delete from wallet_transactions where kind='pay' and order_id={paid}", "APPROVED"),
        fault("I-P3", &["wallet_transactions"], "update wallet_transactions set amount=amount+1 where kind='pay' and order_id={paid}", "APPROVED"),
        fault("I-P3", &[], "delete from payments_payments where order_id={paid}", "only in the wallet"),
        // finding 10: the provider's refunds, in both directions.
        fault("I-P5", &[], format!("update book.psp_charges set refunded=0 where psp_key={}", of("{ended_tested}")), "test 10000 0"),
        fault("I-P5", &[], format!("update book.psp_charges set refunded=700 where psp_key={tested}"), "test – 700"),
        fault("I-P5", &[], "delete from payments_payments where order_id={ended_tested}", "only theirs – 10000"),
        fault("I-P5", &["wallet_transactions"], "delete from wallet_transactions where kind='refund' and order_id={ended}", "wallet"),
        fault("I-P5", &[], "update payments_refunds set state='PENDING' where order_id={ended}", "wallet –"),
        fault("I-P5", &[], "delete from payments_payments where order_id={ended}", "only in the wallet"),
        fault("I-P4", &[], "update payments_payments set state='UNKNOWN', updated_at=1 where order_id={ended_tested}", "UNKNOWN"),
        fault("I-P4", &[], "update payments_payments set state='INTENT', updated_at=1 where order_id={ended_tested}", "INTENT"),
        // As in production: the order waits for the payment.
        fault(
            "I-P4",
            &[],
            "update payments_payments set state='UNKNOWN', updated_at=1 where order_id={tested};
             update orders_orders set state='PAYING', saga_state='RUNNING', due_at=null where id={tested};
             update orders_events set at=1 where order_id={tested}; update orders_steps set ended_at=1 where order_id={tested}",
            "UNKNOWN",
        ),
    ]
}
