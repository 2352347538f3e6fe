"""A model's weights, KV tensors and forward pass: a ScheduledBatch in, token ids out."""
