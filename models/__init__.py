"""Detectors that learn: anomaly baselines and model packages."""
