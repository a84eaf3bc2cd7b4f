-- name: write
-- A batch of facts about running runs, where all is as the caller takes it to be; else nothing at all.
-- $1 and $2 runs and epochs; $3 switches that must be off, and $4 the instant by which a hold must be over; $5 and $6
-- steps; $7 to $10 attempts and how they stand (null: not there); $11 to $13 the ends of the runs' chains; $14 to $17
-- the tree after and before; the rest is rows to write.
WITH locked AS MATERIALIZED (
    -- Whoever comes here holds the pen, so it must not wait for one who waits for the pen.
    SELECT runs.id FROM runs JOIN unnest($1::text[], $2::bigint[]) AS k (id, epoch) USING (id, epoch)
    WHERE state = 'running' AND NOT signalled AND NOT cancel_requested AND NOT paused
    ORDER BY runs.id FOR UPDATE OF runs SKIP LOCKED
), grow AS (
    -- The statement sees the database as it was when it began. What others did to these rows since then, they told the
    -- journal; so where the tree is still the one that the caller knows, nobody did anything.
    UPDATE tree SET size = $14, frontier = $15
    WHERE size = $16 AND frontier = $17
        AND (SELECT count(*) FROM locked) = cardinality($1)
        AND NOT EXISTS (SELECT FROM control WHERE key = ANY ($3::text[]) AND (key = 'halt' OR value COLLATE "C" > $4))
        AND NOT EXISTS (
            SELECT FROM unnest($5::text[], $6::text[]) AS k (run_id, path) JOIN steps AS s USING (run_id, path)
            WHERE s.state NOT IN ('waiting', 'unknown'))
        AND NOT EXISTS (
            SELECT FROM unnest($7::text[], $8::text[], $9::bigint[], $10::text[]) AS k (run_id, path, number, state)
            LEFT JOIN attempts AS a USING (run_id, path, number) WHERE a.state IS DISTINCT FROM k.state)
        AND NOT EXISTS (
            SELECT FROM unnest($11::text[], $12::bigint[], $13::bytea[]) AS k (run_id, run_seq, leaf_hash)
            LEFT JOIN entries AS e USING (run_id, run_seq) WHERE e.leaf_hash IS DISTINCT FROM k.leaf_hash)
    RETURNING 1
), entries_ AS (
    INSERT INTO entries SELECT * FROM unnest($18::bigint[], $19::text[], $20::text[], $21::timestamptz[], $22::text[],
        $23::bigint[], $24::bytea[], $25::bytea[]) WHERE EXISTS (SELECT FROM grow)
), payloads_ AS (
    INSERT INTO payloads SELECT * FROM unnest($26::text[], $27::bytea[], $28::bytea[]) WHERE EXISTS (SELECT FROM grow)
), steps_ AS (
    INSERT INTO steps SELECT * FROM unnest($29::text[], $30::text[], $31::text[], $32::text[], $33::boolean[])
    WHERE EXISTS (SELECT FROM grow)
    ON CONFLICT (run_id, path) DO UPDATE
    SET state = excluded.state, record = excluded.record, awaits_alert = excluded.awaits_alert
), attempts_ AS (
    INSERT INTO attempts
    SELECT * FROM unnest($34::text[], $35::text[], $36::bigint[], $37::text[], $38::text[], $39::text[])
    WHERE EXISTS (SELECT FROM grow)
    ON CONFLICT (run_id, path, number) DO UPDATE SET state = excluded.state, attempt = excluded.attempt
), runs_ AS (
    UPDATE runs SET state = w.state, owner = NULL, lease_until = NULL, wake_at = w.wake_at,
        locked = runs.locked AND w.locked, outputs = coalesce(w.outputs, runs.outputs), error = w.error,
        finished_at = w.finished_at
    FROM unnest($40::text[], $41::text[], $42::timestamptz[], $43::boolean[], $44::text[], $45::text[],
        $46::timestamptz[]) AS w (id, state, wake_at, locked, outputs, error, finished_at)
    WHERE runs.id = w.id AND EXISTS (SELECT FROM grow)
)
SELECT count(*) FROM grow
