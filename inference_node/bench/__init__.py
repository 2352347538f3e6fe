"""The engine's and the server's benchmarks: what is measured, and how it is printed, is in the design's benchmarks page."""
