-- What upstreams were given, counted by all instances together: one row for each quota of each upstream.
CREATE TABLE waypost.quota (
    upstream text NOT NULL,
    quota    text NOT NULL,                             -- what is counted, see Quota.key
    tally    text NOT NULL DEFAULT '[]',                -- slots as JSON, see Tally.written
    PRIMARY KEY (upstream, quota)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
