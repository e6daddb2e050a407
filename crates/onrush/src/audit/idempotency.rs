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
    vec![Invariant::always("I-A3", "one stored answer for each member, operation and key", answers)]
}
