"""What the engine reaches on one GPU, against the memory it reads and against transformers, on weights of a known shape."""
