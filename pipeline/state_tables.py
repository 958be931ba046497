"""Tables of the durable state, and what is asked of the log as a whole."""

from __future__ import annotations

TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS out (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, topic TEXT NOT NULL, machine TEXT NOT NULL,
    t_ns INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (topic, id));
CREATE INDEX IF NOT EXISTS out_topic ON out (topic, machine, t_ns);
CREATE TABLE IF NOT EXISTS snapshot (machine TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    machine TEXT NOT NULL, sensor TEXT NOT NULL, epoch INTEGER NOT NULL, n INTEGER NOT NULL,
    anchor_n INTEGER NOT NULL, anchor_ns INTEGER NOT NULL, ended INTEGER NOT NULL,
    PRIMARY KEY (machine, sensor)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decision (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    t_ns INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS command (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    decision TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS cursor (sink TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metric (shard TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""
SERIES = "json_extract(CAST(body AS TEXT), '$.machine', '$.sensors', '$.sensor', '$.detector', '$.name')"
"""What results of a series have in common; every index of SQLite's ends with the place in the log."""
FACT = "json_array(machine, json_extract(CAST(body AS TEXT), '$.context'))"
"""What decisions on a fact have in common."""
ON_FACTS = "kind IN ('abandon', 'return')"
"""Of decisions; `contexts.CONTEXT_KINDS`."""
ADDED = (
    "DROP INDEX IF EXISTS out_time",
    "CREATE INDEX IF NOT EXISTS out_place ON out (topic)",
    f"CREATE INDEX IF NOT EXISTS out_series ON out (topic, {SERIES})",
    "CREATE INDEX IF NOT EXISTS decision_kind ON decision (kind)",
    f"CREATE INDEX IF NOT EXISTS decision_fact ON decision ({FACT}, t_ns) WHERE {ON_FACTS}",
    "CREATE TABLE IF NOT EXISTS stored (at_ns INTEGER PRIMARY KEY, seq INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS standing (seq INTEGER PRIMARY KEY, alarm TEXT NOT NULL)",
)
"""What files of earlier versions lack; older programs pass it over."""
_ALARM = "json_extract(CAST(body AS TEXT), '$.alarm')"
_CLEARED = "json_extract(CAST(body AS TEXT), '$.transition') = 'cleared'"
_NEW = """
FROM out INDEXED BY out_place
WHERE topic = 'alarm' AND seq > ifnull((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'standing'), 0)
"""
STANDING = (
    f"INSERT OR IGNORE INTO standing SELECT seq, {_ALARM} {_NEW}",
    f"""
    DELETE FROM standing WHERE alarm IN (SELECT {_ALARM} {_NEW} AND {_CLEARED}) OR EXISTS (
        SELECT 1 FROM out WHERE topic = 'alarm' AND id BETWEEN alarm || '|' AND alarm || '}}' AND {_CLEARED})
    """,  # noqa: S608
    f"INSERT OR REPLACE INTO meta SELECT 'standing', max(seq) {_NEW} GROUP BY topic",
)
"""Take what was told since into the places of the alarms that were raised and not cleared.

A repeat may raise again what was cleared: ids of an alarm's transitions are its name and a number.
"""
