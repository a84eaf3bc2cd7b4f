-- Schema 4. Waits for an alert are found by the key that the engine gave them; those of before have none.

-- Not read as JSON, which PostgreSQL refuses where a text holds U+0000. A quote within a text is escaped, and nothing
-- else in the record of a waiting step has this name, so what looks so is the key.
CREATE FUNCTION awaited_key(record TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(substring(record FROM '"awaits":"([0-9a-f:]*)"'), '')
$$;

DROP INDEX steps_awaiting_alerts;
CREATE INDEX steps_awaiting_alerts ON steps ((awaited_key(record) COLLATE "C")) WHERE awaits_alert;
