"""Dropping small activations: where to cut, and how much was really dropped."""
