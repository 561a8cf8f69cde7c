-- Portable SQL only: TEXT, BIGINT, DOUBLE PRECISION, BLOB kept out; times are microseconds UTC set by
-- the program, documents are JSON text, flags are 0 or 1. The same schema is meant for PostgreSQL.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE devices (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    client   TEXT NOT NULL,
    facts    TEXT NOT NULL,
    added_at BIGINT NOT NULL
);

-- A version is immutable. `source` is the text as applied, `body` the checked chain.
CREATE TABLE chains (
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    digest     TEXT NOT NULL,
    source     TEXT NOT NULL,
    body       TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

-- `plan` pins chain version, images, sizes and engines to the run's end.
CREATE TABLE runs (
    id          BIGINT PRIMARY KEY,
    device      TEXT NOT NULL REFERENCES devices (id),
    client      TEXT NOT NULL,
    chain       TEXT NOT NULL,
    state       TEXT NOT NULL,
    generation  BIGINT NOT NULL,
    body        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX runs_by_state ON runs (state, client, id);
CREATE INDEX runs_by_device ON runs (device, id);

CREATE TABLE plans (
    run  BIGINT PRIMARY KEY REFERENCES runs (id),
    body TEXT NOT NULL
);

CREATE TABLE attempts (
    id          TEXT PRIMARY KEY,
    run         BIGINT NOT NULL REFERENCES runs (id),
    stage_index BIGINT NOT NULL,
    purpose     TEXT NOT NULL,
    number      BIGINT NOT NULL,
    generation  BIGINT NOT NULL,
    progress    TEXT NOT NULL,
    input       TEXT NOT NULL,
    output      TEXT,
    work_ms     DOUBLE PRECISION NOT NULL,
    body        TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    finished_at BIGINT,
    position    BIGINT NOT NULL
);
CREATE UNIQUE INDEX attempts_by_run ON attempts (run, stage_index, purpose, number);

CREATE TABLE machines (
    id         TEXT PRIMARY KEY,
    run        BIGINT NOT NULL REFERENCES runs (id),
    name       TEXT NOT NULL,
    generation BIGINT NOT NULL,
    state      TEXT NOT NULL,
    body       TEXT NOT NULL,
    made_at    BIGINT NOT NULL,
    gone_at    BIGINT,
    position   BIGINT NOT NULL
);
CREATE INDEX machines_by_run ON machines (run);
CREATE INDEX machines_alive ON machines (id) WHERE state <> 'gone';

-- Intent → effect → result of each side effect. `result_at` is null while the effect is under way.
CREATE TABLE journal (
    run        BIGINT NOT NULL REFERENCES runs (id),
    seq        BIGINT NOT NULL,
    action     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    generation BIGINT NOT NULL,
    intent_at  BIGINT NOT NULL,
    result_at  BIGINT,
    outcome    TEXT,
    PRIMARY KEY (run, seq)
);

-- What people are told about a run, in order.
CREATE TABLE events (
    id   INTEGER PRIMARY KEY,
    run  BIGINT NOT NULL REFERENCES runs (id),
    at   BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX events_by_run ON events (run, id);

-- Pieces of stages' standard output and error. `piece` is text; bytes that are not UTF-8 are
-- replaced, `position` and `bytes` count what the guest wrote.
CREATE TABLE logs (
    attempt  TEXT NOT NULL,
    stream   TEXT NOT NULL,
    position BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    run      BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    piece    TEXT NOT NULL,
    PRIMARY KEY (attempt, stream, position)
);
CREATE INDEX logs_by_run ON logs (run, at);

-- How long stages took, newest wins: what derived deadlines and expectations are made from.
CREATE TABLE stage_times (
    chain    TEXT NOT NULL,
    stage    TEXT NOT NULL,
    attempt  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    work_ms  DOUBLE PRECISION NOT NULL,
    total_ms DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (chain, stage, at, attempt)
);
