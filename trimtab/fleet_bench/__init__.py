"""How fast and how surely a change reaches many nodes: real controller, workers, broker and database over simulated nodes."""
