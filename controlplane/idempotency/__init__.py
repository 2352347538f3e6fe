"""Requests that may be sent again: the first answer is kept with the change that it tells of, and given again."""
