-- What stages used, and what was learned from it. Append-only; old rows are rolled up, then removed.

-- Looks at machines at work that are older than a few seconds. Kept for two days.
CREATE TABLE looks (
    attempt TEXT NOT NULL,
    at      BIGINT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (attempt, at)
);
CREATE INDEX looks_by_age ON looks (at);

-- One row per try at a stage. `body` is the whole observation.
CREATE TABLE observations (
    id      INTEGER PRIMARY KEY,
    attempt TEXT NOT NULL UNIQUE,
    run     BIGINT NOT NULL,
    chain   TEXT NOT NULL,
    stage   TEXT NOT NULL,
    outcome TEXT NOT NULL,
    at      BIGINT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX observations_by_run ON observations (run);
CREATE INDEX observations_by_stage ON observations (chain, stage, id);

-- Days of stages, rolled up from observations before those are removed: a sketch per resource.
CREATE TABLE observation_days (
    chain    TEXT NOT NULL,
    stage    TEXT NOT NULL,
    day      BIGINT NOT NULL,
    resource TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (chain, stage, day, resource)
);

-- Trained models. `state`: training, serving, beaten, retired, failed. The model itself is an artefact.
CREATE TABLE models (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    state   TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX models_by_name ON models (name, state, id);

-- Which persona a device had when a run was made, and by what: what the classifier learns from.
CREATE TABLE persona_labels (
    id      INTEGER PRIMARY KEY,
    device  TEXT NOT NULL,
    persona TEXT NOT NULL,
    at      BIGINT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX persona_labels_by_device ON persona_labels (device, id);
