"""Keeps the garbage collector off what lasts as long as the process."""

import gc


def settle() -> None:
    """To be called once, by a process that has started: what there is now is not looked through again.

    Modules, mappers, schemas and routes are a million objects. A full collection over them stops every thread for 0.2 to 0.3 s,
    every ten seconds under load; what comes and goes after the start is a hundredth of it.
    """
    gc.collect()
    gc.freeze()
    # Young objects are looked through after so many of them: a page of two hundred nodes is tens of thousands.
    gc.set_threshold(20_000, 20, 20)
