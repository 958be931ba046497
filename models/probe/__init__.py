"""Linear probes: how much a frozen embedding tells about a machine's state, beside simple baselines."""
