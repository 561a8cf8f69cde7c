-- Telemetry that is condensed with time. Same rules as 0001: portable SQL, times in microseconds UTC, documents as JSON.

-- What is computed of a report when it comes, by metric; reports from before have none.
ALTER TABLE device_telemetry ADD COLUMN measures TEXT NOT NULL DEFAULT '{}';
CREATE INDEX device_telemetry_by_time ON device_telemetry (device, at);

-- Count, sum, least and greatest of each metric over `step_s` seconds from `at` on. Written once, when the step has passed.
CREATE TABLE device_telemetry_steps (
    device TEXT NOT NULL REFERENCES devices (id),
    step_s BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (device, step_s, at)
);
