-- Schema 4. Waits for an alert are found by the key that the engine gave them; those of before have none.

DROP INDEX steps_awaiting_alerts;
CREATE INDEX steps_awaiting_alerts ON steps (coalesce(json_extract(record, '$.data.awaits'), ''))
    WHERE awaits_alert = 1;
