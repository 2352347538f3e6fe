"""`trimtab up`: starts, watches and stops a whole fleet on this machine, on loopback only."""
