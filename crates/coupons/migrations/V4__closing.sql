-- Members who closed their accounts: a coupon that an order gives back to them goes to the pool.
create table coupons_closed_members (
    member_id UUID not null primary key,
    at BIGINT not null
) without rowid;
