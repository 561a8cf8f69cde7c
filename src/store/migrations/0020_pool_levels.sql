-- How many machines of a class waited when a step of 300 s began, and how many were wanted then. `wanted` is
-- NULL for a class that nobody set. `at_s` is Unix seconds.
CREATE TABLE pool_levels (
    class   TEXT NOT NULL,
    at_s    BIGINT NOT NULL,
    ready   BIGINT NOT NULL,
    claimed BIGINT NOT NULL,
    wanted  BIGINT,
    PRIMARY KEY (class, at_s)
);
CREATE INDEX pool_levels_by_time ON pool_levels (at_s);
