"""A change of settings on its way through a pool: canary, analysis, promotion, or back again."""
