"""What counts as an operator, and which of them compute."""

from dataclasses import dataclass, field

import torch
from torch.nn import functional

from inference_node.bench.operators import count_operators, summarize


@dataclass
class Event:
    name: str
    cpu_parent: "Event | None" = None
    cpu_children: "list[Event]" = field(default_factory=list)

    def calls(self, name: str) -> "Event":
        below = Event(name, self)
        self.cpu_children.append(below)
        return below


class TestSummarize:
    def test_counts_what_is_called_apart_from_what_that_calls(self) -> None:
        linear = Event("aten::linear")
        product = linear.calls("aten::addmm")
        found = summarize([linear, product, Event("aten::silu")])
        assert (found.called, found.computing, found.inside) == (2, 2, 3)

    def test_a_view_computes_nothing_unless_it_copies(self) -> None:
        copying = Event("aten::reshape")
        copy = copying.calls("aten::clone")
        found = summarize([Event("aten::transpose"), Event("aten::reshape"), copying, copy])
        assert (found.called, found.computing, found.inside) == (3, 1, 4)

    def test_other_marks_are_neither_counted_nor_in_the_way(self) -> None:
        mark = Event("ProfilerStep#1")
        inside = mark.calls("aten::add")
        assert summarize([mark, inside]).called == 1


class TestCountOperators:
    def test_a_merged_product_is_one_where_two_were(self) -> None:
        x, weight = torch.ones(2, 8), torch.ones(6, 8)

        def apart() -> None:
            functional.linear(x, weight[:4])
            functional.linear(x, weight[4:])

        before, after = count_operators(apart), count_operators(lambda: functional.linear(x, weight))
        assert (before.called, before.computing) == (4, 2)  # each product and its slice
        assert (after.called, after.computing) == (1, 1)
        assert dict(before.most)["aten::linear"] == 2
