"""Events know from which address they were caused, and can be found by who caused them."""

revision = "0002_address"
down_revision = "0001_log"

SQL = """
ALTER TABLE log.events ADD COLUMN address text;
CREATE INDEX events_by_actor ON log.events (actor, time) WHERE actor IS NOT NULL;
CREATE INDEX events_by_time ON log.events (time);
DROP INDEX log.events_time;

-- As log.append, with the address; the form without it stays for the version still running.
CREATE FUNCTION log.append(
    p_stream text, p_ids uuid[], p_types text[], p_subjects text[], p_data text[], p_source text, p_actor text,
    p_request_id text, p_address text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    added  bigint := cardinality(p_ids);
    head   bigint;
BEGIN
    INSERT INTO log.streams AS s (stream, seq) VALUES (p_stream, added)
    ON CONFLICT (stream) DO UPDATE SET seq = s.seq + added
    RETURNING s.seq INTO head;
    INSERT INTO log.events (stream, seq, epoch, id, type, source, time, subject, actor, request_id, address, data)
    SELECT p_stream, head - added + item.place, e.epoch,
           item.id, item.type, p_source, clock_timestamp(), item.subject, p_actor, p_request_id, p_address, item.data::json
    FROM log.epoch e, unnest(p_ids, p_types, p_subjects, p_data) WITH ORDINALITY AS item (id, type, subject, data, place);
    RETURN head;
END
$$;
"""
