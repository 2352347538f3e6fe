"""What was learned of step times while they were served, kept apart for each arithmetic that nodes can run."""
