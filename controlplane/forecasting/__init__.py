"""Load and latency ahead, with quantiles: several forecasters, scored on their own past."""
