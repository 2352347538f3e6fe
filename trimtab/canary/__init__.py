"""How good the canary analysis is: records the noise of real engines, and lets the analysis judge changes laid upon it."""
