"""Recordings: `recorder` writes one file, `ring` a folder of them, `reader` and `recover` read, `clip` cuts out."""
