-- What claims came to that were taken down to be settled later: once per claim, however often it is read from the log. Kept as long as the
-- coupons themselves: a claim whose row is gone would look as if it had not been settled.
create table coupons_claims (
    id UUID not null primary key,
    coupon_id UUID not null,
    member_id UUID not null,
    -- The answer that a caller who waits is given.
    status BIGINT not null,
    body BYTEA not null,
    at BIGINT not null
) without rowid;
