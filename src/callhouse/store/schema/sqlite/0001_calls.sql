-- Instants and lengths are in milliseconds. Texts that may hold large JSON stand last, so that a scan skips them.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE accounts (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    email              TEXT NOT NULL UNIQUE,
    login              TEXT UNIQUE,
    auth_id            TEXT NOT NULL UNIQUE,
    plan               TEXT NOT NULL,
    active             INTEGER NOT NULL,
    timezone           TEXT NOT NULL,
    parent_id          INTEGER REFERENCES accounts (id),
    created            INTEGER NOT NULL,
    retention_details  TEXT,
    retention_sessions TEXT,
    retention_plivo    TEXT
);
CREATE INDEX accounts_by_parent ON accounts (parent_id) WHERE parent_id IS NOT NULL;

-- A credential is found by its kind and name alone: a sender does not say which account is calling.
CREATE TABLE credentials (
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    hash       TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- Who is signed in to the console, under a hash of what the cookie holds. account_id is whose calls are shown;
-- is_operator tells that this may be changed. fingerprint is a hash of what opened it: it ends when that changes.
CREATE TABLE sign_ins (
    id          BLOB PRIMARY KEY,
    account_id  INTEGER REFERENCES accounts (id),
    is_operator INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    timezone    TEXT,
    created     INTEGER NOT NULL,
    used        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sign_ins_by_use ON sign_ins (used);

-- By what way calls came: the source that their records were sent to and, if not over HTTP, the place that these stood
-- in: the directory of a file, the name of a mirror or of a command.
CREATE TABLE origins (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    source     TEXT NOT NULL,
    place      TEXT NOT NULL
);
CREATE UNIQUE INDEX origins_once ON origins (account_id, source, place);

-- arrived is when the call was first told of, by origin_id; changed when it was last, its log included once it is over, by
-- changed_by; replaced how often something that was known of it was told otherwise.
-- AUTOINCREMENT: the id is the log_id that clients keep, so it must never come back after a deletion.
CREATE TABLE calls (
    id                     INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id             INTEGER NOT NULL,
    session_id             TEXT NOT NULL,
    started                INTEGER,
    ended                  INTEGER,
    direction              TEXT,
    src                    TEXT,
    src_key                TEXT,
    src_head               INTEGER,
    dest                   TEXT,
    dest_key               TEXT,
    dest_head              INTEGER,
    kind                   INTEGER NOT NULL,
    talk                   INTEGER,
    last_step              TEXT,
    event_count            INTEGER NOT NULL,
    arrived                INTEGER NOT NULL,
    origin_id              INTEGER NOT NULL,
    changed                INTEGER NOT NULL,
    changed_by             INTEGER NOT NULL,
    replaced               INTEGER NOT NULL,
    answered               INTEGER,
    duration               INTEGER,
    billed_duration        INTEGER,
    call_uuid              TEXT,
    parent_call_uuid       TEXT,
    hangup_cause_code      INTEGER,
    hangup_cause_name      TEXT,
    hangup_source          TEXT,
    cause_code             INTEGER,
    hangup_original_code   TEXT,
    hangup_original_scheme TEXT,
    rate                   TEXT,
    amount                 TEXT,
    conference_uuid        TEXT,
    stir_verification      TEXT,
    stir_attestation       TEXT,
    source_ip              TEXT,
    voice_network_group    TEXT,
    application_name       TEXT,
    application_version    TEXT,
    location               TEXT,
    channel                TEXT,
    sip_call_id            TEXT,
    log_id                 INTEGER,
    told                   TEXT,
    extra                  TEXT
);

CREATE UNIQUE INDEX calls_by_session ON calls (account_id, session_id);
-- A call that was sent without a uuid has one that is derived from its account and session_id.
CREATE INDEX calls_by_uuid ON calls (account_id, call_uuid);
-- Only complete calls are listed, so only they are in the list's indexes; ties of start are ordered by session_id. The
-- end lets a list of a window of ends skip calls without reading them, kind and talk let filters.
CREATE INDEX calls_by_start ON calls (account_id, started, session_id, ended, kind, talk)
    WHERE started IS NOT NULL AND ended IS NOT NULL;
-- Holds all that the Plivo API filters by, so that whatever it asks for is found in this index alone.
CREATE INDEX calls_by_end ON calls (account_id, ended, started, kind, talk, src_head, dest_head)
    WHERE started IS NOT NULL AND ended IS NOT NULL;
-- The few calls of four hours and more: all others that end in a window started at most four hours before it.
CREATE INDEX calls_that_are_long ON calls (account_id, ended, started, kind) WHERE ended - started >= 14400000;
-- Rare kinds are listed without passing over the others.
CREATE INDEX calls_by_kind ON calls (account_id, kind, started, session_id, ended, talk)
    WHERE started IS NOT NULL AND ended IS NOT NULL;
CREATE INDEX calls_by_dest ON calls (account_id, dest_key, started, session_id, kind, talk)
    WHERE started IS NOT NULL AND ended IS NOT NULL;
CREATE INDEX calls_by_src ON calls (account_id, src_key, started, session_id, kind, talk)
    WHERE started IS NOT NULL AND ended IS NOT NULL AND src_key IS NOT NULL;
-- The few calls from a number to itself, which a search for either side must not count twice.
CREATE INDEX calls_to_themselves ON calls (account_id, dest_key, started, kind, talk)
    WHERE started IS NOT NULL AND ended IS NOT NULL AND src_key = dest_key;
-- The legs that another call made.
CREATE INDEX calls_by_parent ON calls (account_id, parent_call_uuid) WHERE parent_call_uuid IS NOT NULL;
CREATE INDEX calls_by_sip_call_id ON calls (account_id, sip_call_id) WHERE sip_call_id IS NOT NULL;
-- Of calls that were mirrored from a vendor whose logs have numbers.
CREATE INDEX calls_by_log_id ON calls (account_id, log_id) WHERE log_id IS NOT NULL;
-- Calls whose log is kept, which may be few beside those of a year; holds all columns that choose and count them.
CREATE INDEX calls_with_log ON calls (account_id, started, session_id, ended, dest_key, event_count)
    WHERE started IS NOT NULL AND ended IS NOT NULL AND event_count > 0;
CREATE INDEX calls_in_progress ON calls (account_id, started) WHERE started IS NULL OR ended IS NULL;

-- How many complete calls started in a bucket of width hours (1, 24 and 768); bucket = started / width.
CREATE TABLE call_counts (
    account_id INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    bucket     INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    PRIMARY KEY (account_id, width, bucket)
) WITHOUT ROWID;

-- The same by the hours in which they ended.
CREATE TABLE end_counts (
    account_id INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    bucket     INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    PRIMARY KEY (account_id, width, bucket)
) WITHOUT ROWID;

-- What the complete calls of an hour or a day (width in hours; bucket = instant / width) come to, in several ways: topic
-- says by what they are told apart and by which of their instants they are counted, name is one of these. talk and
-- billed are the lengths of the answered parts and of what is charged.
CREATE TABLE totals (
    account_id INTEGER NOT NULL,
    topic      INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    name       TEXT NOT NULL,
    bucket     INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    talk       INTEGER NOT NULL,
    billed     INTEGER NOT NULL,
    PRIMARY KEY (account_id, topic, width, name, bucket)
) WITHOUT ROWID;

-- The numbers whose calls are counted in totals: an account's own, and others that have many.
CREATE TABLE counted_numbers (
    account_id INTEGER NOT NULL,
    number     TEXT NOT NULL,
    is_own     INTEGER NOT NULL,
    PRIMARY KEY (account_id, number)
) WITHOUT ROWID;

-- By how many the calls that were under way at once in an hour exceeded those at its beginning. NULL: to be found out.
CREATE TABLE hour_peaks (
    account_id INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    peak       INTEGER,
    PRIMARY KEY (account_id, hour)
) WITHOUT ROWID;
CREATE INDEX hour_peaks_unknown ON hour_peaks (account_id, hour) WHERE peak IS NULL;

-- The log of a complete call: callhouse.model.log's document, size bytes long, compressed with the numbered dictionary
-- (0: none).
CREATE TABLE logs (
    call_id    INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    ended      INTEGER NOT NULL,
    dictionary INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    document   BLOB NOT NULL
);
CREATE INDEX logs_by_end ON logs (account_id, ended);

-- The events of calls that are not complete yet, in order of arrival.
CREATE TABLE waiting_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    identity   BLOB NOT NULL,
    timestamp  INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    event      BLOB NOT NULL
);
CREATE UNIQUE INDEX waiting_events_once ON waiting_events (account_id, session_id, identity);
CREATE INDEX waiting_events_large ON waiting_events (account_id, session_id, size) WHERE size > 2000;
CREATE INDEX waiting_events_by_time ON waiting_events (account_id, timestamp);

-- The rows that a call is joined from, for sources that send it in rows: all of a group in one document, compressed
-- (zstd), a row a line, and eight bytes of each row's digest. When their retention is over the rows go and the digests
-- stay, so that a row that is sent again is known. ended is NULL while the call is in progress.
CREATE TABLE fragments (
    account_id INTEGER NOT NULL,
    name       TEXT NOT NULL,
    source     TEXT NOT NULL,
    changed    INTEGER NOT NULL,
    ended      INTEGER,
    digests    BLOB NOT NULL,
    document   BLOB,
    PRIMARY KEY (account_id, name, source)
);
CREATE INDEX fragments_in_progress ON fragments (account_id, source, changed) WHERE ended IS NULL;
CREATE INDEX fragments_by_end ON fragments (account_id, ended) WHERE document IS NOT NULL;

-- The events of class error, which outlive their log. started and dest_key are the call's, once that is complete: until
-- then they are not shown. seq is -1 where the sender gave none. line is in UTF-8, a blob as it may hold any character.
CREATE TABLE call_errors (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    identity   BLOB NOT NULL,
    started    INTEGER,
    dest_key   TEXT,
    timestamp  INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    line       BLOB NOT NULL
);
CREATE UNIQUE INDEX call_errors_once ON call_errors (account_id, session_id, identity);
CREATE INDEX call_errors_by_start ON call_errors (account_id, started, timestamp, session_id, seq, dest_key)
    WHERE started IS NOT NULL;
CREATE INDEX call_errors_unshown ON call_errors (account_id, timestamp) WHERE started IS NULL;

-- Dictionaries are never changed: a document names the one it was written with.
CREATE TABLE dictionaries (
    number  INTEGER PRIMARY KEY,
    content BLOB NOT NULL
);

-- The words of a log, one document a call under the call's id. Only the index is kept, not the text.
CREATE VIRTUAL TABLE log_words USING fts5 (
    words, content = '', contentless_delete = 1, detail = none, tokenize = "unicode61 remove_diacritics 2"
);

-- How far files were imported under the options with a digest: the first size bytes of one, whose digest is known (and
-- that of a few of them, to find it by whatever it is called now), gave so many records that nothing behind them can
-- change. Of one that is_whole everything was taken in up to there.
CREATE TABLE imports (
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    source     TEXT NOT NULL,
    options    BLOB NOT NULL,
    id         BLOB NOT NULL,
    path       TEXT NOT NULL,
    size       INTEGER NOT NULL,
    head       BLOB NOT NULL,
    digest     BLOB NOT NULL,
    records    INTEGER NOT NULL,
    is_whole   INTEGER NOT NULL,
    changed    INTEGER NOT NULL,
    PRIMARY KEY (account_id, source, options, id)
) WITHOUT ROWID;

-- Up to when all is stored that was written to a file that is followed, and to those that rotation made of it.
CREATE TABLE followed_files (
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    source     TEXT NOT NULL,
    path       TEXT NOT NULL,
    read_until INTEGER NOT NULL,
    PRIMARY KEY (account_id, source, path)
) WITHOUT ROWID;

-- What came from a source in an hour (instant / hour), and of the calls that it completed soon after their end the sum
-- of the milliseconds until then, and the most of them.
CREATE TABLE arrivals (
    account_id INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    source     TEXT NOT NULL,
    accepted   INTEGER NOT NULL,
    repeated   INTEGER NOT NULL,
    refused    INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    calls      INTEGER NOT NULL,
    delay      INTEGER NOT NULL,
    longest    INTEGER NOT NULL,
    PRIMARY KEY (account_id, hour, source)
) WITHOUT ROWID;

-- What was refused inside an accepted batch; the digest makes a repeat of it the same entry. The record is compressed
-- (zstd); its size and the preview, its first bytes, are those before. origin is the file and line that it came from, or
-- the name of the mirror; empty if it was sent.
CREATE TABLE quarantine (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    received   INTEGER NOT NULL,
    source     TEXT NOT NULL,
    origin     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    digest     BLOB NOT NULL,
    size       INTEGER NOT NULL,
    preview    BLOB NOT NULL,
    record     BLOB NOT NULL
);
CREATE UNIQUE INDEX quarantine_once ON quarantine (account_id, digest);
CREATE INDEX quarantine_by_arrival ON quarantine (account_id, received);
CREATE INDEX quarantine_by_account ON quarantine (account_id, id);

-- The accounts at vendors that are followed. secret names the file or the variable that holds the secret, which is not
-- kept. place is callhouse.mirror.place's document of what was had, written together with the calls; calls counts them.
-- Whoever is the owner, until owned_until, follows the account; nobody else does.
CREATE TABLE mirrors (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    api         TEXT NOT NULL,
    account_id  INTEGER NOT NULL REFERENCES accounts (id),
    url         TEXT NOT NULL,
    user_name   TEXT NOT NULL,
    secret      TEXT NOT NULL,
    since       INTEGER NOT NULL,
    overlap     INTEGER NOT NULL,
    rate        REAL NOT NULL,
    created     INTEGER NOT NULL,
    state       TEXT NOT NULL,
    trouble     TEXT NOT NULL,
    succeeded   INTEGER,
    calls       INTEGER NOT NULL,
    speed       REAL NOT NULL,
    place       TEXT NOT NULL,
    again       TEXT NOT NULL DEFAULT '[]',
    owner       TEXT,
    owned_until INTEGER NOT NULL
);

-- What vendors deleted before it could be had: calls, or their logs, by day (whole days since 1970 in UTC). calls is -1
-- where nobody can tell how many.
CREATE TABLE mirror_losses (
    mirror_id INTEGER NOT NULL REFERENCES mirrors (id),
    day       INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    PRIMARY KEY (mirror_id, day)
) WITHOUT ROWID;

-- What the planner is to think of the table of calls: rows, then how many of them have the first columns of an index in
-- common. Without it an account is taken to have ten calls, so that any index of its calls seems as good as another; and
-- with what a store really holds a plan would change one day.
ANALYZE calls;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
    ('calls', 'calls_by_session', '10000000 1000000 1'),
    ('calls', 'calls_by_uuid', '10000000 1000000 1'),
    ('calls', 'calls_by_start', '10000000 1000000 2 1 1 1 1'),
    ('calls', 'calls_by_end', '10000000 1000000 2 1 1 1 1 1'),
    ('calls', 'calls_that_are_long', '1000 100 1 1 1'),
    ('calls', 'calls_by_kind', '10000000 1000000 50000 2 1 1 1'),
    ('calls', 'calls_by_dest', '10000000 1000000 1000 1 1 1 1'),
    ('calls', 'calls_by_src', '10000000 1000000 100 1 1 1 1'),
    ('calls', 'calls_to_themselves', '1000 100 10 1 1 1'),
    ('calls', 'calls_by_parent', '1000000 100000 1'),
    ('calls', 'calls_by_sip_call_id', '10000000 1000000 2'),
    ('calls', 'calls_with_log', '500000 50000 2 1 1 1 1'),
    ('calls', 'calls_in_progress', '1000 100 1');
