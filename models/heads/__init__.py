"""Heads on frozen features: logistic regression, two layers, prototypes; their choice, export and report."""
