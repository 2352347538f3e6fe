"""The arithmetic of a step: plain truths in `reference`, and the paths that are fast here and equal to them."""
