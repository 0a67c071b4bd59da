-- What is owed. A message's row is written once and never changed; its state is in `live`, `delivery` and
-- `dead_letter`:
--   no row in `live`     prepared: what the primary said is not known
--   live, split = 0      committed, and every planned delivery still owed; no rows in `delivery` yet.
--                        Most messages go from here to nothing, which saves their deliveries' rows
--   live, split = 1      what is owed are the rows in `delivery`

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

CREATE TABLE live (
    message INTEGER PRIMARY KEY,
    split   INTEGER NOT NULL
);

CREATE TABLE delivery (
    id         INTEGER PRIMARY KEY, -- message << 16 | number
    lane     TEXT    NOT NULL,
    route      TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    REAL,                -- NULL: due, and held in memory by the running process
    expires_at REAL    NOT NULL,
    recipients TEXT                 -- JSON; NULL: all of the message
);
CREATE INDEX delivery_due ON delivery (lane, next_at) WHERE next_at IS NOT NULL;

CREATE TABLE dead_letter (
    id         INTEGER PRIMARY KEY,
    message    INTEGER NOT NULL,
    lane     TEXT    NOT NULL,
    route      TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    recipients TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    died_at    REAL    NOT NULL
);
CREATE INDEX dead_letter_message ON dead_letter (message);

CREATE TABLE probe (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL
);
