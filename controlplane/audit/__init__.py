"""The history as evidence: that nothing in it was changed, dropped, added or reordered, and how to take it elsewhere."""
