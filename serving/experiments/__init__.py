"""Experiments on shoppers: assignment, analysis, off-policy estimates and bandits.

In the room: `assignment` (who is in which arm), `attribution` (which list an outcome counts for),
`moments` and `inference` (sums by user, and what follows from them), `sequential` (tests that may be
looked at daily), `sample_ratio`, `report` (all of it for one experiment), `page` and `charts` (as HTML),
`off_policy` (a new model's value from the log), `bandit` (Thompson sampling with known propensities), and
`command` (`shelfwise experiments`).

Everything but `command` is functions of numpy arrays that import `schema` alone: no clock, no random
state of its own, no database. `command` also reads `serving.store`.
"""
