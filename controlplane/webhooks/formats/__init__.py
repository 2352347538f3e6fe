"""How a delivery is written for its receiver: one file a format, each a pure function of what is to be told."""
