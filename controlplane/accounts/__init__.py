"""Who may do what: API tokens, browser sessions and roles."""
