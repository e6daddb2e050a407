create table accounts_members (
    id UUID not null primary key,
    -- The one form that identifies the account. Null once the account is closed: the address is free again.
    email_normalized TEXT unique,
    email TEXT not null,
    name TEXT not null,
    phone TEXT,
    password_hash TEXT not null,
    role TEXT not null check (role = 'customer' or role = 'seller' or role = 'operator'),
    state TEXT not null check (state = 'active' or state = 'closed' or state = 'disabled'),
    created_at BIGINT not null,
    closed_at BIGINT,
    version BIGINT not null,
    check ((state = 'closed') = (email_normalized is null)),
    check ((state = 'closed') = (closed_at is not null))
) without rowid;

-- A session is what one sign-in opened: the family of its refresh tokens.
create table accounts_sessions (
    id UUID not null primary key,
    member_id UUID not null references accounts_members (id),
    created_at BIGINT not null,
    expires_at BIGINT not null,
    revoked_at BIGINT,
    reason TEXT check (reason = 'signed_out' or reason = 'token_reused' or reason = 'password_changed' or reason = 'account_closed' or reason = 'account_disabled'),
    check ((revoked_at is null) = (reason is null))
) without rowid;

create index accounts_sessions_member on accounts_sessions (member_id);
-- For the start (revocations of the last hour) and for pruning.
create index accounts_sessions_revoked on accounts_sessions (revoked_at) where revoked_at is not null;
create index accounts_sessions_expiry on accounts_sessions (expires_at);

-- The token itself is never stored, only its SHA-256: it is 32 random bytes, so a plain digest cannot be guessed back.
create table accounts_refresh_tokens (
    token_hash BYTEA not null primary key,
    session_id UUID not null references accounts_sessions (id),
    state TEXT not null check (state = 'LIVE' or state = 'USED' or state = 'REUSED' or state = 'REVOKED'),
    issued_at BIGINT not null,
    expires_at BIGINT not null
) without rowid;

create index accounts_refresh_tokens_session on accounts_refresh_tokens (session_id);
-- One live token per family (I-A2), as the last guard behind the rule.
create unique index accounts_refresh_tokens_live on accounts_refresh_tokens (session_id) where state = 'LIVE';
