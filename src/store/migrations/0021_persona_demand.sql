-- Arrivals, their counts and forecasts by persona too: empty where none was known. A forecast of a persona
-- has no class.
ALTER TABLE arrivals ADD COLUMN persona TEXT NOT NULL DEFAULT '';

CREATE TABLE counts_by_persona (
    class   TEXT NOT NULL,
    persona TEXT NOT NULL,
    client  TEXT NOT NULL,
    step_s  BIGINT NOT NULL,
    start_s BIGINT NOT NULL,
    hot     BIGINT NOT NULL,
    warm    BIGINT NOT NULL,
    cold    BIGINT NOT NULL,
    wait_ms DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (class, step_s, start_s, client, persona)
);
INSERT INTO counts_by_persona (class, persona, client, step_s, start_s, hot, warm, cold, wait_ms)
    SELECT class, '', client, step_s, start_s, hot, warm, cold, wait_ms FROM arrival_counts;
DROP TABLE arrival_counts;
ALTER TABLE counts_by_persona RENAME TO arrival_counts;
CREATE INDEX arrival_counts_by_step ON arrival_counts (step_s, start_s);
CREATE INDEX arrival_counts_by_persona ON arrival_counts (persona, step_s, start_s);

CREATE TABLE forecasts_by_persona (
    class   TEXT NOT NULL,
    persona TEXT NOT NULL,
    client  TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    model   TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (class, persona, client, made_at)
);
INSERT INTO forecasts_by_persona (class, persona, client, made_at, model, body)
    SELECT class, '', client, made_at, model, body FROM forecasts;
DROP TABLE forecasts;
ALTER TABLE forecasts_by_persona RENAME TO forecasts;
CREATE INDEX forecasts_by_time ON forecasts (made_at);
