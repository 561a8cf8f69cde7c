-- Power and boot order. Same rules as 0001. Passwords are in files of the state folder; `secret` names one.

CREATE TABLE bmcs (
    device  TEXT PRIMARY KEY REFERENCES devices (id),
    address TEXT NOT NULL,
    secret  TEXT,
    refused BIGINT NOT NULL,
    set_at  BIGINT NOT NULL
);

-- The intention to boot a device from the network, so that a daemon that was killed goes on with it.
CREATE TABLE network_orders (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    step   TEXT NOT NULL,
    body   TEXT NOT NULL
);
CREATE INDEX network_orders_by_step ON network_orders (step);
