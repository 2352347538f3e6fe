"""`trimtab bench surge`: a real fleet under a real surge, tuned by the controller, by nobody, and by the best fixed settings."""
