//! `coupons_definitions`: the coupons as announced, with their counters.

use crate::model::{CouponPhase, Definition, Terms};
use contracts::{
    CouponId, StoreId, Timestamp,
    calls::{CouponScope, Discount},
};
use kit::{
    DbError, Fault, Row, Tx,
    db::{FromRow, params},
    http::text,
};
use std::sync::Arc;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, discount_won, discount_basis_points, discount_max_won, scope, store_id, min_order, per_member, \
             reissue_after_cancel, issue_from, valid_from, valid_until, valid_days, quantity, issue_until, waitlist, issued, next_number, \
             next_ticket, head_ticket, waiting, expire_number, expire_at, created_at, deleted_at, version from coupons_definitions ",
            $rest
        )
    };
}

impl FromRow for Definition {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let discount = match row.get::<Option<_>>(2)? {
            Some(won) => Discount::Amount { won },
            None => Discount::Rate { basis_points: row.get(3)?, max_won: row.get(4)? },
        };
        let scope: String = row.get(5)?;
        let terms = Terms {
            discount,
            scope: CouponScope::parse(&scope).ok_or_else(|| super::unknown(5, &scope))?,
            store_id: row.get(6)?,
            min_order: row.get(7)?,
            per_member: row.get(8)?,
            reissue_after_cancel: row.get(9)?,
            issue_from: row.get(10)?,
            valid_from: row.get(11)?,
            valid_until: row.get(12)?,
            valid_days: row.get(13)?,
        };
        Ok(Definition {
            id: row.get(0)?,
            name: row.get(1)?,
            terms: Arc::new(terms),
            quantity: row.get(14)?,
            issue_until: row.get(15)?,
            waitlist: row.get(16)?,
            issued: row.get(17)?,
            next_number: row.get(18)?,
            next_ticket: row.get(19)?,
            head_ticket: row.get(20)?,
            waiting: row.get(21)?,
            expire_number: row.get(22)?,
            expire_at: row.get(23)?,
            created_at: row.get(24)?,
            deleted_at: row.get(25)?,
            version: row.get(26)?,
        })
    }
}

/// Definitions for a change, deleted ones too. Unknown ids are missing.
pub async fn load(tx: &mut Tx, ids: &[CouponId]) -> Result<Vec<Definition>, DbError> {
    tx.query_many(select!("where id=$1 for update"), ids.iter().map(|id| params![*id])).await
}

/// Definitions for reading, deleted ones too. Unknown ids are missing.
pub async fn find(tx: &mut Tx, ids: &[CouponId]) -> Result<Vec<Definition>, DbError> {
    tx.query_many(select!("where id=$1"), ids.iter().map(|id| params![*id])).await
}

/// A definition that is not deleted.
pub async fn get(tx: &mut Tx, id: CouponId) -> Result<Option<Definition>, DbError> {
    tx.query_opt(select!("where id=$1 and deleted_at is null"), &params![id]).await
}

/// Filter of a list.
#[derive(Clone, Debug, Default)]
pub struct CouponFilter {
    /// Part of the name, folded.
    pub text: Option<String>,
    pub store_id: Option<StoreId>,
    pub phase: Option<CouponPhase>,
}

impl CouponFilter {
    /// True if definitions may have to be passed over. Then a page costs more than its size.
    pub fn passes_over(&self) -> bool {
        self.text.is_some() || self.store_id.is_some() || self.phase.is_some()
    }
}

/// Definitions that one request looks at before its page ends early. It bounds a search to some milliseconds.
const MAX_LOOKED_AT: u32 = 5_000;

/// A page of definitions that are not deleted, newest first, behind `after`. The id is the last one looked at, if more follow it. So a page
/// may be short or empty although more follow.
pub async fn page(
    tx: &mut Tx,
    filter: &CouponFilter,
    after: Option<CouponId>,
    now: Timestamp,
    limit: u32,
) -> Result<(Vec<Definition>, Option<CouponId>), DbError> {
    let pattern = filter.text.as_deref().map(like_pattern);
    let phase = filter.phase.map(|phase| match phase {
        CouponPhase::Upcoming => "upcoming",
        CouponPhase::Open => "open",
        CouponPhase::Closed => "closed",
    });
    let mut last_looked_at: Option<(CouponId,)> = None;
    if filter.passes_over() {
        let sql = "select id from coupons_definitions where ($1 is null or id < $1) order by id desc limit 1 offset $2";
        last_looked_at = tx.query_opt(sql, &params![after, MAX_LOOKED_AT - 1]).await?;
    }
    let last_looked_at = last_looked_at.map(|(id,)| id);
    let sql = select!(
        "where deleted_at is null and ($1 is null or id < $1) and ($7 is null or id >= $7) \
         and ($2 is null or search like $2 escape '!') and ($3 is null or store_id = $3) \
         and ($4 is null or $4 = case when $5 < issue_from then 'upcoming' when $5 < closes_at then 'open' else 'closed' end) \
         order by id desc limit $6"
    );
    // One more than a page tells if another follows.
    let params = params![after, pattern.as_deref(), filter.store_id, phase, now, limit + 1, last_looked_at];
    let mut found: Vec<Definition> = tx.query(sql, &params).await?;
    let mut next = last_looked_at;
    if found.len() > limit as usize {
        found.truncate(limit as usize);
        next = found.last().map(|last| last.id);
    }
    Ok((found, next))
}

/// A `like` pattern for folded names that contain the text, with its wildcards escaped.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Definitions of which an issued coupon may be due to expire, the longest overdue first.
pub async fn with_due(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<CouponId>, DbError> {
    let sql = "select id from coupons_definitions where expire_at <= $1 order by expire_at limit $2";
    let found: Vec<(CouponId,)> = tx.query(sql, &params![now, limit]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Definitions whose waiting members can no longer be served.
pub async fn with_abandoned_waitlist(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<CouponId>, DbError> {
    let sql = "select id from coupons_definitions where waiting > 0 and (closes_at <= $1 or deleted_at is not null) limit $2";
    let found: Vec<(CouponId,)> = tx.query(sql, &params![now, limit]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Definitions with a search text that an earlier binary wrote.
pub async fn unfolded(tx: &mut Tx, limit: u32) -> Result<Vec<CouponId>, DbError> {
    let found: Vec<(CouponId,)> = tx.query("select id from coupons_definitions where not folded limit $1", &params![limit]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

/// Definitions with waiting members and free units, left over by a transaction.
pub async fn with_backlog(tx: &mut Tx, now: Timestamp, limit: u32) -> Result<Vec<CouponId>, DbError> {
    let sql = "select id from coupons_definitions where waiting > 0 and issued < quantity and issue_from <= $1 and closes_at > $1 \
               and deleted_at is null limit $2";
    let found: Vec<(CouponId,)> = tx.query(sql, &params![now, limit]).await?;
    Ok(found.into_iter().map(|(id,)| id).collect())
}

pub async fn insert(tx: &mut Tx, definition: &Definition) -> Result<(), DbError> {
    let (won, basis_points, max_won) = match definition.terms.discount {
        Discount::Amount { won } => (Some(won), None, None),
        Discount::Rate { basis_points, max_won } => (None, Some(basis_points), max_won),
    };
    let terms = &definition.terms;
    let search = text::fold(&definition.name);
    tx.execute(
        "insert into coupons_definitions (id, name, search, discount_won, discount_basis_points, discount_max_won, scope, store_id, \
         min_order, per_member, reissue_after_cancel, issue_from, valid_from, valid_until, valid_days, quantity, issue_until, closes_at, \
         waitlist, issued, next_number, next_ticket, head_ticket, waiting, expire_number, created_at, version, folded) \
         values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,0,1,1,1,0,1,$20,0,true)",
        &params![
            definition.id,
            &definition.name,
            &search,
            won,
            basis_points,
            max_won,
            terms.scope.as_str(),
            terms.store_id,
            terms.min_order,
            terms.per_member,
            terms.reissue_after_cancel,
            terms.issue_from,
            terms.valid_from,
            terms.valid_until,
            terms.valid_days,
            definition.quantity,
            definition.issue_until,
            definition.closes_at(),
            definition.waitlist,
            definition.created_at
        ],
    )
    .await?;
    Ok(())
}

/// Saves the fields that can change. `Err`: another transaction has saved the row since it was loaded.
pub async fn save(tx: &mut Tx, definitions: &mut [&mut Definition]) -> Result<(), Fault> {
    for definition in definitions.iter_mut() {
        definition.version += 1;
    }
    let searches: Vec<String> = definitions.iter().map(|definition| text::fold(&definition.name)).collect();
    let rows = definitions.iter().zip(&searches).map(|(definition, search)| {
        params![
            definition.id,
            definition.version,
            &definition.name,
            search,
            definition.quantity,
            definition.issue_until,
            definition.closes_at(),
            definition.waitlist,
            definition.issued,
            definition.next_number,
            definition.next_ticket,
            definition.head_ticket,
            definition.waiting,
            definition.expire_number,
            definition.expire_at,
            definition.deleted_at
        ]
    });
    let changed = tx
        .execute_many(
            "update coupons_definitions set version=$2, name=$3, search=$4, quantity=$5, issue_until=$6, closes_at=$7, waitlist=$8, \
             issued=$9, next_number=$10, next_ticket=$11, head_ticket=$12, waiting=$13, expire_number=$14, expire_at=$15, deleted_at=$16, \
             folded=true where id=$1 and version=$2-1",
            rows,
        )
        .await?;
    if changed.iter().any(|changed| *changed != 1) {
        return Err(DbError::Retry("another transaction saved the coupon definition".into()).into());
    }
    Ok(())
}
