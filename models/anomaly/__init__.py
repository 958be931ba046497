"""Commissioned normality: learn a machine's normal from its own running, say how far a window lies from it.

Read in this order: `vectors` (what is compared) → `backends` (how far) → `fusion` (one number) → `thresholds` (when it
is too far) → `baseline` and `store` (the artefact) → `commission` (makes it) → `score` (uses it).
"""
