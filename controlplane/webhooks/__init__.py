"""Tells the world outside what happened: endpoints, what is owed to them, and each attempt to bring it there."""
