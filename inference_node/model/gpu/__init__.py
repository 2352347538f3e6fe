"""The GPU's half of `model`: weights, pages and steps in the memory of one CUDA device. Imported where there is one, and only there."""
