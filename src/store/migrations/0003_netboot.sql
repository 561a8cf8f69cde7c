-- The network boot. Same rules as 0001: portable SQL, times in microseconds UTC, documents as JSON.

-- Network addresses that asked for something to boot; `device` once it is known whose they are.
CREATE TABLE boot_clients (
    mac      TEXT PRIMARY KEY,
    device   TEXT REFERENCES devices (id),
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    said     TEXT NOT NULL
);
CREATE INDEX boot_clients_by_age ON boot_clients (last_at);

-- Where a device stands on its way. `deadline`: when something happens by itself.
CREATE TABLE boot_devices (
    device   TEXT PRIMARY KEY REFERENCES devices (id),
    phase    TEXT NOT NULL,
    deadline BIGINT,
    body     TEXT NOT NULL
);
CREATE INDEX boot_devices_due ON boot_devices (deadline);

-- Rights of devices, as SHA-256 of the token. `used_at`: a single-use token was exchanged.
CREATE TABLE boot_tokens (
    hash       TEXT PRIMARY KEY,
    device     TEXT NOT NULL REFERENCES devices (id),
    kind       TEXT NOT NULL,
    run        BIGINT,
    boot_id    TEXT NOT NULL,
    made_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX boot_tokens_by_device ON boot_tokens (device, kind);
CREATE INDEX boot_tokens_by_end ON boot_tokens (expires_at);

CREATE TABLE boot_events (
    id      INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    at      BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    body    TEXT NOT NULL
);
CREATE INDEX boot_events_by_subject ON boot_events (subject, id);

-- What delivered devices say of themselves, for people now and for learning later.
CREATE TABLE device_telemetry (
    id     INTEGER PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    at     BIGINT NOT NULL,
    body   TEXT NOT NULL
);
CREATE INDEX device_telemetry_by_device ON device_telemetry (device, id);
