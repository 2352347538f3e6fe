"""The peers' servers. Each file is run by the peer's own Python, so it imports its neighbour here and nothing else of ours."""
