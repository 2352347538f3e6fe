"""Keeps the node's settings as the control plane wishes them, and keeps serving when it is gone."""
