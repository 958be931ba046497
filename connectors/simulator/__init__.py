"""Seeded simulators with known truth: milling chatter, drills that break, bearings that fail, and a small shop.

`files.simulate` writes sets of recordings, `shop.Shop` tells what a shop's sensors hear at any time,
`source.ShopSource` publishes that live. The physics is in `stability`, `milling`, `drilling`, `drill_head`,
`head_stroke`, `bearing` and `microphone_model`. Simulated data show that the method works, not that it works at your
machine.
"""
