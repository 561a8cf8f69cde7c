-- Who may use the API, what they did, and who is told about it. Secrets are stored as SHA-256 digests,
-- passwords as argon2id PHC strings; a client of '' means all clients.

CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    hash         TEXT NOT NULL UNIQUE,
    role         TEXT NOT NULL,
    client       TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT,
    last_used_at BIGINT
);

CREATE TABLE users (
    name       TEXT PRIMARY KEY,
    password   TEXT NOT NULL,
    role       TEXT NOT NULL,
    client     TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    hash       TEXT PRIMARY KEY,
    owner      TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);
CREATE INDEX sessions_by_owner ON sessions (owner);

-- At most one row: the code with which the first admin is made.
CREATE TABLE bootstrap (
    hash       TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- Answers to requests with an Idempotency-Key. A status of 0: under way, or cut off by a crash.
CREATE TABLE answers (
    caller  TEXT NOT NULL,
    key     TEXT NOT NULL,
    request TEXT NOT NULL,
    status  BIGINT NOT NULL,
    headers TEXT NOT NULL,
    body    TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX answers_by_age ON answers (at);

-- Append-only, each row's hash covers the row and the hash before it (access::ledger). The head is kept
-- in meta as 'audit_head'.
CREATE TABLE audit (
    seq      BIGINT PRIMARY KEY,
    at       BIGINT NOT NULL,
    request  TEXT NOT NULL,
    who      TEXT NOT NULL,
    origin   TEXT NOT NULL,
    role     TEXT NOT NULL,
    client   TEXT NOT NULL,
    action   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    status   BIGINT NOT NULL,
    detail   TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash     TEXT NOT NULL
);
CREATE INDEX audit_by_request ON audit (request);

-- `secret` is in the clear, because messages are signed with it. `event` is the last one that was
-- turned into deliveries.
CREATE TABLE webhooks (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    url        TEXT NOT NULL,
    secret     TEXT NOT NULL,
    kinds      TEXT NOT NULL,
    client     TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    event      BIGINT NOT NULL
);

CREATE TABLE deliveries (
    id         TEXT PRIMARY KEY,
    webhook    TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event      BIGINT NOT NULL,
    body       TEXT NOT NULL,
    state      TEXT NOT NULL,
    tries      BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT,
    status     BIGINT,
    error      TEXT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (webhook, next_at) WHERE state = 'waiting';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook, created_at);

-- Lists in pages, filtered by client.
CREATE INDEX devices_by_client ON devices (client, name);
CREATE INDEX runs_by_client ON runs (client, id);
