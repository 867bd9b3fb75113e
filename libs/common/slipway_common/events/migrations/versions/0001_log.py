"""The event log: streams, events, and how far each consumer has come."""

revision = "0001_log"
down_revision = None

SQL = """
CREATE SCHEMA IF NOT EXISTS log;

-- One row. A restore raises it: whatever still carries the number before is of a history that is gone.
CREATE TABLE log.epoch (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch     bigint NOT NULL CHECK (epoch > 0),
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason    text NOT NULL
);
INSERT INTO log.epoch (epoch, reason) VALUES (1, 'the log was created');

-- The head of each stream; its row lock puts the commits of one stream in order.
-- first_seq is the oldest event still there; seq + 1 when retention has taken them all.
CREATE TABLE log.streams (
    stream    text COLLATE "C" PRIMARY KEY CHECK (octet_length(stream) BETWEEN 1 AND 200),
    seq       bigint NOT NULL CHECK (seq > 0),
    first_seq bigint NOT NULL DEFAULT 1 CHECK (first_seq BETWEEN 1 AND seq + 1),
    closed_at timestamptz
) WITH (fillfactor = 70);

CREATE TABLE log.events (
    stream     text COLLATE "C" NOT NULL,
    seq        bigint NOT NULL,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    epoch      bigint NOT NULL,
    id         uuid NOT NULL,
    type       text NOT NULL,
    source     text NOT NULL,
    time       timestamptz NOT NULL,
    subject    text,
    actor      text,
    request_id text,
    data       json NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX events_xid ON log.events (xid);
CREATE INDEX events_time ON log.events USING brin (time);

CREATE TABLE log.consumers (
    name          text COLLATE "C" PRIMARY KEY,
    start         text NOT NULL CHECK (start IN ('beginning', 'snapshot', 'now')),
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- No row means: nothing of this stream yet (last_seq 0).
-- reload: the stream's state must come from a snapshot before any event of it is applied.
CREATE TABLE log.positions (
    consumer      text COLLATE "C" NOT NULL,
    stream        text COLLATE "C" NOT NULL,
    last_seq      bigint NOT NULL CHECK (last_seq >= 0),
    reload        boolean NOT NULL DEFAULT false,
    parked_at     timestamptz,
    parked_seq    bigint,
    parked_reason text,
    PRIMARY KEY (consumer, stream),
    CONSTRAINT positions_consumer FOREIGN KEY (consumer) REFERENCES log.consumers (name) ON DELETE CASCADE,
    CONSTRAINT parked_whole CHECK ((parked_at IS NULL) = (parked_seq IS NULL)
                               AND (parked_at IS NULL) = (parked_reason IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX positions_parked ON log.positions (consumer, stream) WHERE parked_at IS NOT NULL;

-- The one way to write an event, last in the transaction that it tells of: the stream's row stays locked until COMMIT. A function
-- so that a transaction which is itself a function of a service's can end with it. Returns the seq of the last event.
CREATE FUNCTION log.append(
    p_stream text, p_ids uuid[], p_types text[], p_subjects text[], p_data text[], p_source text, p_actor text, p_request_id text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    added  bigint := cardinality(p_ids);
    head   bigint;
BEGIN
    INSERT INTO log.streams AS s (stream, seq) VALUES (p_stream, added)
    ON CONFLICT (stream) DO UPDATE SET seq = s.seq + added
    RETURNING s.seq INTO head;
    INSERT INTO log.events (stream, seq, epoch, id, type, source, time, subject, actor, request_id, data)
    SELECT p_stream, head - added + item.place, e.epoch,
           item.id, item.type, p_source, clock_timestamp(), item.subject, p_actor, p_request_id, item.data::json
    FROM log.epoch e, unnest(p_ids, p_types, p_subjects, p_data) WITH ORDINALITY AS item (id, type, subject, data, place);
    RETURN head;
END
$$;
"""
