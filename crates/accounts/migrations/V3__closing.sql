-- Addresses that no new account may have: those of operators who closed their accounts. A keyed hash, so that the address itself is gone.
create table accounts_reserved_addresses (
    hash BYTEA not null primary key,
    at BIGINT not null
) without rowid;

-- Number of `member.closed` messages of a closed account. The second is sent once the last access token has expired.
alter table accounts_members add column closings BIGINT not null default 0;
-- For the job that sends the second message.
create index accounts_members_unsettled on accounts_members (closed_at) where state = 'closed' and closings < 2;
-- Few: an operator's closing, disabling or removal locks them all.
create index accounts_members_operators on accounts_members (id) where role = 'operator';
