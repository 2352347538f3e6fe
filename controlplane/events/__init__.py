"""What happened (events) and what must still happen (outbox): one append-only table each, read by all."""
