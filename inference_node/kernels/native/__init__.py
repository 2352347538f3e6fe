"""A step's forward pass in C++ for CPUs with AVX-512: built by the machine's compiler at first use, called through ctypes."""
