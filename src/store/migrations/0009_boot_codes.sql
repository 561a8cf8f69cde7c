-- Codes that let a device be provisioned, once each, as SHA-256 of what is typed. `device`: only that
-- one; none: whoever gives it first. `used_by`: who that was; the row stays until it would have ended.
CREATE TABLE boot_codes (
    hash       TEXT PRIMARY KEY,
    device     TEXT REFERENCES devices (id),
    made_by    TEXT NOT NULL,
    made_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT,
    used_by    TEXT
);
CREATE INDEX boot_codes_by_end ON boot_codes (expires_at);
