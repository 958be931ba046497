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
ADDED = f"""
DROP INDEX IF EXISTS out_time;
CREATE INDEX IF NOT EXISTS out_place ON out (topic);
CREATE INDEX IF NOT EXISTS out_series ON out (topic, {SERIES});
CREATE TABLE IF NOT EXISTS stored (at_ns INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
"""
"""What files of earlier versions lack; older programs pass it over."""
STANDING = """
WITH told AS (
    SELECT seq, json_extract(CAST(body AS TEXT), '$.alarm') AS alarm,
    json_extract(CAST(body AS TEXT), '$.transition') AS transition FROM out WHERE topic = 'alarm')
SELECT seq FROM told WHERE alarm NOT IN (SELECT alarm FROM told WHERE transition = 'cleared')
"""
"""Places of the alarms that were raised and not cleared."""
