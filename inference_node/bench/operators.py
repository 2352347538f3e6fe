"""How many operators a piece of work asks torch for, counted by torch's own profiler."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from torch.profiler import ProfilerActivity, profile

# Operators that give another shape to memory that stays where it is, or make room for it; those that may copy (reshape, to) show
# that by what they call.
_VIEWS = frozenset(
    """
    aten::_reshape_alias aten::_unsafe_view aten::alias aten::as_strided aten::chunk aten::contiguous aten::detach aten::detach_
    aten::diagonal aten::empty aten::empty_like aten::empty_strided aten::expand aten::to aten::type_as
    aten::expand_as aten::flatten aten::lift_fresh aten::movedim aten::mT aten::narrow aten::numpy_T aten::permute aten::real
    aten::reshape aten::resolve_conj aten::resolve_neg aten::select aten::slice aten::split aten::split_with_sizes aten::squeeze
    aten::swapaxes aten::t aten::transpose aten::unbind aten::unflatten aten::unsafe_chunk aten::unsafe_split aten::unsqueeze
    aten::view aten::view_as aten::view_as_complex aten::view_as_real
    """.split()  # noqa: SIM905 - a list of so many strings is a page of lines
)


class Event(Protocol):
    """What is read of a profiler's event."""

    @property
    def name(self) -> str: ...

    @property
    def cpu_parent(self) -> "Event | None": ...

    @property
    def cpu_children(self) -> Sequence["Event"]: ...


@dataclass(frozen=True, slots=True)
class OperatorCount:
    """called: operators asked for; computing: those of them that do more than look at memory in another shape.

    inside: all that run, the ones that operators call in turn included. most: the names called most, with their counts.
    """

    called: int
    computing: int
    inside: int
    most: tuple[tuple[str, int], ...]


def count_operators(work: Callable[[], object]) -> OperatorCount:
    """Runs `work` once under the profiler, which slows it: time it apart."""
    with _without_notes(), profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    events: Any = seen.events()
    return summarize(events)


@contextmanager
def _without_notes() -> Iterator[None]:
    """The profiler's C++ part writes a line to standard error as it starts and as it stops, whatever its log level."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def summarize(events: Iterable[Event]) -> OperatorCount:
    """Counts operators (names with a namespace), not the profiler's other marks."""
    operators = [event for event in events if _is_operator(event)]
    called = [event for event in operators if not _has_operator_above(event)]
    return OperatorCount(
        called=len(called),
        computing=sum(not _only_looks(event) for event in called),
        inside=len(operators),
        most=tuple(Counter(event.name for event in called).most_common(12)),
    )


def _is_operator(event: Event) -> bool:
    return "::" in event.name and not event.name.startswith(("cudaLaunch", "Memcpy"))


def _has_operator_above(event: Event) -> bool:
    above = event.cpu_parent
    while above is not None:
        if _is_operator(above):
            return True
        above = above.cpu_parent
    return False


def _only_looks(event: Event) -> bool:
    """A reshape that has to copy shows the copy beneath it."""
    return event.name in _VIEWS and all(_only_looks(below) for below in event.cpu_children if _is_operator(below))
