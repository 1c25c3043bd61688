"""The algebra of losses: a flat sum of weight * distance @ lens, and how it is evaluated."""
