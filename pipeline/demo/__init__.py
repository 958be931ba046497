"""The demonstration: real recordings of a lathe and a mill and two simulated machines, with credits."""
