-- Devices that a run waits for, by that alone: thousands that nobody waits for are not looked through.
CREATE INDEX boot_devices_awaited ON boot_devices (device) WHERE json_extract(body, '$.awaited') IS NOT NULL;
