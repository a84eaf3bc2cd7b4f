-- Schema 5. What grows old is found by its time; alerts, runs and payloads by their names, which begin with it.

CREATE INDEX windows_by_end ON windows (until);
CREATE INDEX acted_by_time ON acted (at);
