-- The pool's rows: `body` is the noun as JSON, the columns beside it are what queries need. `turn`
-- counts the changes of the pool; a row is never overwritten by an earlier one.

CREATE TABLE pool_targets (
    class TEXT PRIMARY KEY,
    body  TEXT NOT NULL,
    turn  BIGINT NOT NULL
);

CREATE TABLE templates (
    id      TEXT PRIMARY KEY,
    class   TEXT NOT NULL,
    state   TEXT NOT NULL,
    body    TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    turn    BIGINT NOT NULL
);
CREATE INDEX templates_alive ON templates (id) WHERE state <> 'gone';

-- `base_mib` is the memory that the guest saw before any was added.
CREATE TABLE shells (
    id       TEXT PRIMARY KEY,
    class    TEXT NOT NULL,
    serial   BIGINT NOT NULL,
    state    TEXT NOT NULL,
    body     TEXT NOT NULL,
    base_mib BIGINT,
    made_at  BIGINT NOT NULL,
    gone_at  BIGINT,
    turn     BIGINT NOT NULL
);
CREATE INDEX shells_alive ON shells (id) WHERE state <> 'gone';
CREATE INDEX shells_by_serial ON shells (serial);

-- A key may be used again after its claim was released: the row of the shell that it had stays.
CREATE TABLE claims (
    key         TEXT NOT NULL,
    shell       TEXT NOT NULL,
    class       TEXT NOT NULL,
    tier        TEXT NOT NULL,
    body        TEXT NOT NULL,
    made_at     BIGINT NOT NULL,
    released_at BIGINT,
    turn        BIGINT NOT NULL,
    PRIMARY KEY (key, shell)
);
-- One key, one shell; one shell, one claim, ever.
CREATE UNIQUE INDEX claims_open ON claims (key) WHERE released_at IS NULL;
CREATE UNIQUE INDEX claims_by_shell ON claims (shell);
CREATE INDEX claims_by_time ON claims (made_at);

-- Whether a host forks, by its version and accelerator.
CREATE TABLE fork_verdicts (
    host TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
