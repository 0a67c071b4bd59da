-- What is owed. A message's row is written once and never changed; what changes is in `delivery`, whose rows
-- are narrow. Every name is qualified: the search path of a role or of a connection pooler does not matter.

CREATE SEQUENCE waypost.number INCREMENT BY 1000;   -- keys and ids, in blocks that a writer hands out by itself
CREATE SEQUENCE waypost.instance_number AS integer;

CREATE TABLE waypost.instance (
    number     integer          PRIMARY KEY DEFAULT nextval('waypost.instance_number'),  -- new at every start
    name       text             NOT NULL,
    started_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz      NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE waypost.message (
    key          bigint           PRIMARY KEY,
    id           text             COLLATE "C" NOT NULL,
    received_at  double precision NOT NULL,
    reverse_path text             NOT NULL,             -- once more, to be searched; empty for the null one
    record       text             NOT NULL,             -- client, envelope and digest as JSON
    size         bigint           NOT NULL,             -- octets of content
    is_ascii     boolean          NOT NULL,
    content      bytea                                  -- NULL: in `chunk`
) WITH (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
-- Not compressed: that would cost more than anything else that is done to a message here.
ALTER TABLE waypost.message ALTER content SET STORAGE EXTERNAL;
CREATE INDEX message_id ON waypost.message (id);

CREATE TABLE waypost.chunk (
    message bigint  NOT NULL,
    number  integer NOT NULL,
    data    bytea   NOT NULL,
    PRIMARY KEY (message, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE waypost.chunk ALTER data SET STORAGE EXTERNAL;

-- Chunks whose message is not there yet; those of an instance that has died are removed.
CREATE TABLE waypost.upload (
    message bigint  PRIMARY KEY,
    owner   integer NOT NULL
);

CREATE TABLE waypost.prepared (
    message bigint  PRIMARY KEY,
    owner   integer NOT NULL,                           -- number of the instance that will commit or abort
    planned text    NOT NULL                            -- JSON
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX prepared_owner ON waypost.prepared (owner);

CREATE TABLE waypost.delivery (
    id          bigint           PRIMARY KEY,
    message     bigint           NOT NULL,
    received_at double precision NOT NULL,              -- the message's
    next_at     double precision NOT NULL,
    expires_at  double precision NOT NULL,
    died_at     double precision,
    attempts    integer          NOT NULL DEFAULT 0,
    owner       integer,                                -- number of the instance that has claimed it
    alone       boolean          NOT NULL,              -- the message never had another one: it ends with this
    warned      boolean          NOT NULL DEFAULT false,
    state       text             COLLATE "C" NOT NULL CHECK (state IN ('queued', 'running', 'held', 'dead')),
    lane        text             COLLATE "C" NOT NULL,
    route       text             NOT NULL,
    doubt       text,
    intent      text,                                   -- the upstream that gets the content now
    recipients  text,                                   -- JSON; NULL: all of the message
    reason      text             NOT NULL DEFAULT '',
    CHECK ((owner IS NOT NULL) = (state = 'running'))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_insert_scale_factor = 0.1);
-- Together they hold every row once, with all that is counted.
CREATE INDEX delivery_due ON waypost.delivery (lane, next_at) INCLUDE (received_at) WHERE state = 'queued';
CREATE INDEX delivery_other ON waypost.delivery (owner, lane, state) INCLUDE (received_at) WHERE state <> 'queued';
CREATE INDEX delivery_message ON waypost.delivery (message);
CREATE INDEX delivery_died ON waypost.delivery (died_at) WHERE state = 'dead';

CREATE TABLE waypost.note (
    kind  text             NOT NULL,
    key   text             NOT NULL,
    value text             NOT NULL,
    until double precision NOT NULL,
    PRIMARY KEY (kind, key)
);

-- The journal. The latest records and keys are at the end of their tables, so that little else is touched.
CREATE TABLE waypost.event (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text   COLLATE "C" NOT NULL,
    at         text   COLLATE "C" NOT NULL,             -- the record's `time`
    line       text   NOT NULL                          -- the record, JSON
);
CREATE INDEX event_message ON waypost.event (message_id, seq);

CREATE TABLE waypost.event_key (
    key        text   COLLATE "C" NOT NULL,             -- Message-ID, or an address
    message_id text   COLLATE "C" NOT NULL,
    PRIMARY KEY (key, message_id)
);
CREATE INDEX event_key_message ON waypost.event_key (message_id);
