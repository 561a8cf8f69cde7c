-- Personas: immutable versions, which of them devices get, and who gets which.

CREATE TABLE persona_versions (
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    digest     TEXT NOT NULL,
    body       TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

-- The promoted version; a persona without a row has only drafts.
CREATE TABLE persona_current (
    name    TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    FOREIGN KEY (name, version) REFERENCES persona_versions (name, version)
);

-- Who did what, when and why, in order.
CREATE TABLE persona_moves (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    at   BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX persona_moves_by_name ON persona_moves (name, id);

-- `ended_at` is null while an assignment is in force; `until_at` may have passed all the same.
CREATE TABLE persona_assignments (
    id           INTEGER PRIMARY KEY,
    subject_kind TEXT NOT NULL,
    subject_name TEXT NOT NULL,
    body         TEXT NOT NULL,
    made_at      BIGINT NOT NULL,
    until_at     BIGINT,
    ended_at     BIGINT,
    ended_by     TEXT,
    ended_reason TEXT
);
CREATE INDEX persona_assignments_in_force ON persona_assignments (subject_kind, subject_name) WHERE ended_at IS NULL;

CREATE TABLE persona_rules (
    version    BIGINT PRIMARY KEY,
    source     TEXT NOT NULL,
    body       TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    applied_by TEXT NOT NULL,
    reason     TEXT NOT NULL
);
