//! The invariants of the ledger and of held points. The audit itself computes the hash chains (I-L4).

use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    vec![
        Invariant::always(
            "I-L1",
            "each ledger transaction sums to zero",
            "select tx_id, sum(amount) from wallet_entries group by tx_id having sum(amount)<>0",
        ),
        Invariant::always(
            "I-L2",
            "balances are the sum of their entries, held points the sum of their holds",
            "select a.owner_id, a.kind, a.balance, sum(e.amount) from wallet_accounts a
             left join wallet_entries e on e.owner_id=a.owner_id and e.kind=a.kind
             group by a.owner_id, a.kind, a.balance, a.entries having coalesce(sum(e.amount),0)<>a.balance or count(e.n)<>a.entries
             union all
             select a.owner_id, a.kind, a.held, sum(h.amount) from wallet_accounts a
             left join wallet_holds h on h.member_id=a.owner_id and h.state='HELD' where a.kind='REWARD'
             group by a.owner_id, a.kind, a.held having coalesce(sum(h.amount),0)<>a.held",
        ),
        Invariant::always(
            "I-L3",
            "a member's money and points were never below zero, at any past moment",
            "select owner_id, kind, n, balance from (
               select owner_id, kind, n, sum(amount) over (partition by owner_id, kind order by n) as balance
               from wallet_entries where kind in ('CASH','REWARD')) where balance<0",
        ),
        Invariant::always(
            "I-L5",
            "one ledger transaction for each cause",
            "select kind, ref, count(*) from wallet_transactions group by kind, ref having count(*)>1",
        ),
    ]
}
