"""The tasks: small functions that are told an id and look in SQL for what to do."""
