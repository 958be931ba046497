"""What learns: anomaly baselines, the IMPACT encoder and its probe, heads, the drill paper; packages and weights."""
