"""The machine: what flows, through which stages, and who runs them; it knows no signal processing and no device.

Read in this order: `messages` → `topics` → `topology` → `operators.base` → `runner` → `embedded`.
Importing this package runs nothing.
"""
