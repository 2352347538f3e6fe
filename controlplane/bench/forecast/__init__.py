"""`trimtab bench forecast`: spike warnings and load forecasts, scored by fixed rules on traces that nobody tuned on.

The rules are in docs/benchmarks/forecast.md: what a spike is, when a warning counts, which data may choose a threshold.
"""
