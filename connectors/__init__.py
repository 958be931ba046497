"""The outside world: one file per technology, with its source, its sink or both; third-party errors stop here."""
