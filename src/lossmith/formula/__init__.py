"""The algebra of losses: flat sums of weight * distance @ lens, their weights, their evaluation and their cost."""
