-- name: write
-- A batch of facts about running runs, where all is as the caller takes it to be; else nothing at all.
-- Text of many rows comes as one text with U+001F between the rows' values, and what has a fixed size as one row of
-- bytes: taken apart here it costs the caller a fraction of what arrays do.
-- $1 to $4 runs, epochs, and the ends of their chains (place, hash); $5 switches that must be off, and $6 the instant by
-- which a hold must be over; $7 and $8 steps; $9 to $12 attempts and how they stand (empty: not there); $13 to $16 the
-- tree after and before; the rest is rows to write.
WITH expected AS MATERIALIZED (
    SELECT id, epoch, run_seq, substr($4::bytea, 32 * (n::integer - 1) + 1, 32) AS leaf_hash
    FROM unnest(string_to_array($1, E'\x1f'), $2::bigint[], $3::bigint[]) WITH ORDINALITY AS k (id, epoch, run_seq, n)
), locked AS MATERIALIZED (
    -- Whoever comes here holds the pen, so it must not wait for one who waits for the pen.
    SELECT runs.id FROM runs JOIN expected USING (id, epoch)
    WHERE state = 'running' AND NOT signalled AND NOT cancel_requested AND NOT paused
    ORDER BY runs.id FOR UPDATE OF runs SKIP LOCKED
), grow AS (
    -- The statement sees the database as it was when it began. What others did to these rows since then, they told the
    -- journal; so where the tree is still the one that the caller knows, nobody did anything.
    UPDATE tree SET size = $13, frontier = $14
    WHERE size = $15 AND frontier = $16
        AND (SELECT count(*) FROM locked) = cardinality($2)
        AND NOT EXISTS (SELECT FROM control WHERE key = ANY ($5::text[]) AND (key = 'halt' OR value COLLATE "C" > $6))
        AND NOT EXISTS (
            SELECT FROM unnest(string_to_array($7, E'\x1f'), string_to_array($8, E'\x1f')) AS k (run_id, path)
            JOIN steps AS s USING (run_id, path) WHERE s.state NOT IN ('waiting', 'unknown'))
        AND NOT EXISTS (
            SELECT FROM unnest(string_to_array($9, E'\x1f'), string_to_array($10, E'\x1f'), $11::bigint[],
                string_to_array($12, E'\x1f', '')) AS k (run_id, path, number, state)
            LEFT JOIN attempts AS a USING (run_id, path, number) WHERE a.state IS DISTINCT FROM k.state)
        AND NOT EXISTS (
            SELECT FROM expected AS k LEFT JOIN entries AS e ON e.run_id = k.id AND e.run_seq = k.run_seq
            WHERE e.leaf_hash IS DISTINCT FROM k.leaf_hash)
    RETURNING 1
), told AS MATERIALIZED (
    SELECT * FROM unnest(string_to_array($17, E'\x1f'), string_to_array($18, E'\x1f'), $19::timestamptz[],
        string_to_array($20, E'\x1f'), $21::bigint[], $22::bytea[], $25::bytea[])
        WITH ORDINALITY AS t (id, type, at, run_id, run_seq, leaf, payload, n) WHERE EXISTS (SELECT FROM grow)
), entries_ AS (
    INSERT INTO entries
    SELECT $15 + n - 1, id, type, at, run_id, run_seq, leaf, substr($23::bytea, 32 * (n::integer - 1) + 1, 32) FROM told
), payloads_ AS (
    INSERT INTO payloads
    SELECT id, substr($24::bytea, 32 * (n::integer - 1) + 1, 32), payload FROM told WHERE payload IS NOT NULL
), steps_ AS (
    INSERT INTO steps
    SELECT * FROM unnest(string_to_array($26, E'\x1f'), string_to_array($27, E'\x1f'), string_to_array($28, E'\x1f'),
        string_to_array($29, E'\x1f'), $30::boolean[]) WHERE EXISTS (SELECT FROM grow)
    ON CONFLICT (run_id, path) DO UPDATE
    SET state = excluded.state, record = excluded.record, awaits_alert = excluded.awaits_alert
), attempts_ AS (
    INSERT INTO attempts
    SELECT * FROM unnest(string_to_array($31, E'\x1f'), string_to_array($32, E'\x1f'), $33::bigint[],
        string_to_array($34, E'\x1f'), string_to_array($35, E'\x1f'), string_to_array($36, E'\x1f'))
    WHERE EXISTS (SELECT FROM grow)
    ON CONFLICT (run_id, path, number) DO UPDATE SET state = excluded.state, attempt = excluded.attempt
), runs_ AS (
    UPDATE runs SET state = w.state, owner = NULL, lease_until = NULL, wake_at = w.wake_at,
        locked = runs.locked AND w.locked, outputs = coalesce(w.outputs, runs.outputs), error = w.error,
        finished_at = w.finished_at
    FROM unnest($37::text[], $38::text[], $39::timestamptz[], $40::boolean[], $41::text[], $42::text[],
        $43::timestamptz[]) AS w (id, state, wake_at, locked, outputs, error, finished_at)
    WHERE runs.id = w.id AND EXISTS (SELECT FROM grow)
)
SELECT count(*) FROM grow
