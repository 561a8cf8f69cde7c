-- What was asked for, what is expected to be, and how sizes are chosen. `demand` is the only writer.

-- Append-only. One row per request; the same key at the same time is the same request.
CREATE TABLE arrivals (
    key     TEXT NOT NULL,
    class   TEXT NOT NULL,
    client  TEXT NOT NULL,
    tier    TEXT NOT NULL,
    wait_ms DOUBLE PRECISION,
    at      BIGINT NOT NULL,
    PRIMARY KEY (key, at)
);
CREATE INDEX arrivals_by_class ON arrivals (class, at);
CREATE INDEX arrivals_by_time ON arrivals (at);

-- The same counted, in steps of 300 s for weeks and of an hour for years. `start_s` is Unix seconds.
CREATE TABLE arrival_counts (
    class   TEXT NOT NULL,
    client  TEXT NOT NULL,
    step_s  BIGINT NOT NULL,
    start_s BIGINT NOT NULL,
    hot     BIGINT NOT NULL,
    warm    BIGINT NOT NULL,
    cold    BIGINT NOT NULL,
    wait_ms DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (class, step_s, start_s, client)
);
CREATE INDEX arrival_counts_by_step ON arrival_counts (step_s, start_s);

-- When somebody counted. What lies in no span is not known; it is not zero.
CREATE TABLE arrival_watches (
    from_at  BIGINT PRIMARY KEY,
    until_at BIGINT NOT NULL
);

-- What was expected, as it was told. `body` holds the quantiles; `client` is empty for all of them.
CREATE TABLE forecasts (
    class   TEXT NOT NULL,
    client  TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    model   TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (class, client, made_at)
);
CREATE INDEX forecasts_by_time ON forecasts (made_at);

-- What was learned of a series, so that a restart need not learn it anew.
CREATE TABLE forecast_models (
    class   TEXT PRIMARY KEY,
    model   TEXT NOT NULL,
    body    TEXT NOT NULL,
    made_at BIGINT NOT NULL
);

CREATE TABLE planned_events (
    name     TEXT PRIMARY KEY,
    body     TEXT NOT NULL,
    from_at  BIGINT NOT NULL,
    until_at BIGINT NOT NULL
);

CREATE TABLE pool_policies (
    class TEXT PRIMARY KEY,
    body  TEXT NOT NULL
);
