//! The stored answers of all services.

use contracts::SERVICES;
use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    let answers = SERVICES
        .iter()
        .map(|service| {
            format!(
                "select '{service}', operation, key, count(*) from {service}_idempotency group by scope, operation, key
                 having count(*)>1 or min(request_hash) is null or max(case when status is not null and body is null then 1 else 0 end)=1"
            )
        })
        .collect::<Vec<_>>()
        .join("\nunion all\n");
    vec![
        Invariant::always("I-A3", "one stored answer for each member, operation and key", answers),
        Invariant::always("I-A3b", "an open key has an open answer, which completes it, and the other way round", open_keys()),
    ]
}

/// SQL for keys that no transaction completes, and for open answers without their key. Only orders answers later.
fn open_keys() -> String {
    let others = SERVICES
        .iter()
        .filter(|service| **service != "orders")
        .map(|service| format!("select '{service}', operation, key, 'open' from {service}_idempotency where status is null"));
    let orders = "select 'orders', i.operation, i.key, 'no open answer' from orders_idempotency i where i.status is null and not exists (
                    select 1 from orders_open_answers a where a.operation=i.operation and a.scope=i.scope and a.key=i.key)
                  union all
                  select 'orders', a.operation, a.key, 'no open key' from orders_open_answers a where not exists (
                    select 1 from orders_idempotency i where i.operation=a.operation and i.scope=a.scope and i.key=a.key and i.status is null)";
    others.chain([orders.to_owned()]).collect::<Vec<_>>().join("\nunion all\n")
}
