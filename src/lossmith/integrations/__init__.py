"""The monitor of a loss in the loops of other frameworks; each module needs its framework only."""
