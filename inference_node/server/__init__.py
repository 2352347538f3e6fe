"""The node over HTTP: OpenAI's API for clients, probes and metrics for operators, settings for the control plane."""
