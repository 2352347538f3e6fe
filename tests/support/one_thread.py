"""The tests compute as the control plane does; to be imported before the libraries are. Some files were eight times slower when
two threads of each of four processes waited for two cores. Tests that are about threads set torch's number themselves."""

from trimtab.one_thread import compute_on_one_thread

compute_on_one_thread()
