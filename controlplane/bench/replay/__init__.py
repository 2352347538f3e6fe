"""`trimtab bench replay`: the controller's own code against recorded arrivals, on a simulated clock."""
