"""Demo traffic: a realistic open-loop load on the nodes of a local fleet."""
