-- Scopes and runs are named by integers inside the file, so that the text of an id is stored once.

CREATE TABLE runs (
    id          INTEGER PRIMARY KEY, -- rises with every run created: lists are in this order
    run         TEXT NOT NULL UNIQUE,
    -- The summary; NULL until there is one.
    workflow    TEXT,
    version     TEXT,
    status      INTEGER,
    starter     TEXT,
    started_at  INTEGER,
    updated_at  INTEGER,
    ended_at    INTEGER,
    revision    INTEGER NOT NULL DEFAULT 0,
    more        TEXT -- what most runs do not have, as JSON
);
CREATE INDEX runs_by_status ON runs (status) WHERE status IS NOT NULL;
CREATE INDEX runs_by_workflow ON runs (workflow, status) WHERE status IS NOT NULL;

CREATE TABLE scopes (
    id         INTEGER PRIMARY KEY,
    run        INTEGER NOT NULL,
    path       TEXT NOT NULL,
    -- The due entry; NULL without one.
    due        INTEGER,
    due_seq    INTEGER,
    due_visits INTEGER,
    UNIQUE (run, path)
);
CREATE INDEX scopes_by_due ON scopes (due) WHERE due IS NOT NULL;

-- A log: records lie in the order in which they were written, so that a group of appends to many scopes changes few pages.
-- The index says where a scope's are.
CREATE TABLE records (
    id        INTEGER PRIMARY KEY,
    scope     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    digest    INTEGER NOT NULL, -- the first eight bytes of the body's hash
    append_id TEXT NOT NULL,
    body      BLOB NOT NULL
);
CREATE UNIQUE INDEX records_by_scope ON records (scope, seq);

CREATE TABLE snapshots (
    scope INTEGER PRIMARY KEY,
    seq   INTEGER NOT NULL,
    body  BLOB NOT NULL
);

CREATE TABLE forks (
    id    INTEGER PRIMARY KEY,
    scope INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    body  BLOB NOT NULL,
    UNIQUE (scope, seq)
);

CREATE TABLE leases (
    scope  INTEGER PRIMARY KEY,
    claim  INTEGER NOT NULL,
    worker TEXT NOT NULL,
    until  INTEGER NOT NULL
);

CREATE TABLE waiters (
    scope  INTEGER PRIMARY KEY,
    run    INTEGER NOT NULL,
    signal TEXT NOT NULL
);
CREATE INDEX waiters_by_run ON waiters (run, signal);

CREATE TABLE approvals (
    id           INTEGER PRIMARY KEY,
    run          INTEGER NOT NULL,
    approval     TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    pending      INTEGER NOT NULL,
    row          TEXT NOT NULL,
    UNIQUE (run, approval)
);
CREATE INDEX approvals_by_time ON approvals (requested_at);
CREATE INDEX approvals_by_run ON approvals (run, requested_at);
CREATE INDEX approvals_pending ON approvals (requested_at) WHERE pending;

CREATE TABLE definitions (
    id            INTEGER PRIMARY KEY,
    kind          INTEGER NOT NULL,
    name          TEXT NOT NULL,
    version       TEXT NOT NULL,
    hash          TEXT NOT NULL,
    source        TEXT NOT NULL,
    file          TEXT,
    registered_at INTEGER NOT NULL,
    UNIQUE (kind, name, version)
);
CREATE INDEX definitions_by_hash ON definitions (kind, name, hash);

-- What each name stands for now.
CREATE TABLE active (
    kind       INTEGER NOT NULL,
    name       TEXT NOT NULL,
    definition INTEGER NOT NULL,
    disabled   INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
