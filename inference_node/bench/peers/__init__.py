"""Other serving engines as measured: one file each."""
