-- What is owed. A message's row is written once and never changed. What becomes of it:
--   in `whole`, live = 0    prepared: what the primary said is not known
--   in `whole`, live = 1    every planned delivery is still owed, and none has a row yet. Most messages go from
--                           here to nothing, which saves their deliveries' rows
--   not in `whole`          what is owed are the rows in `delivery`

CREATE TABLE message (
    key         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL,
    received_at REAL    NOT NULL,
    record      TEXT    NOT NULL,   -- client, envelope and planned deliveries: JSON, see rows.py
    content     BLOB    NOT NULL,   -- all of it, or what comes before the file
    file_size   INTEGER,            -- octets of content/<key>; NULL: there is no file
    file_start  INTEGER NOT NULL,   -- where in the file the content goes on
    is_ascii    INTEGER NOT NULL    -- of the file
);

CREATE TABLE whole (
    message INTEGER PRIMARY KEY,
    live    INTEGER NOT NULL,
    planned TEXT                    -- JSON; NULL: what the message's record says
);

CREATE TABLE delivery (
    id          INTEGER PRIMARY KEY, -- message << 16 | number
    lane        TEXT    NOT NULL,
    route       TEXT    NOT NULL,
    state       INTEGER NOT NULL,    -- 0 queued, 1 held, 2 dead
    attempts    INTEGER NOT NULL,
    next_at     REAL,                -- NULL unless queued, and while it is in the running process's memory
    received_at REAL    NOT NULL,
    expires_at  REAL    NOT NULL,
    message_id  TEXT    NOT NULL,
    recipients  TEXT,                -- JSON; NULL: all of the message
    reason      TEXT    NOT NULL,    -- the last answer, or why it died
    doubt       TEXT,                -- the upstream that may have it
    warned      INTEGER NOT NULL,
    died_at     REAL
);
CREATE INDEX delivery_due ON delivery (lane, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX delivery_state ON delivery (lane, state);
CREATE INDEX delivery_in_memory ON delivery (lane) WHERE state = 0 AND next_at IS NULL;

-- An attempt that has begun and whose outcome is not recorded.
CREATE TABLE intent (
    delivery INTEGER PRIMARY KEY,
    upstream TEXT    NOT NULL
);

CREATE TABLE note (
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;

CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL
);
