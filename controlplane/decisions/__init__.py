"""From what was observed and foreseen to what should be done, with a reason for every outcome."""
