"""How bytes to skip are divided over the sites of a model."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inference_node.pruning.allocate import LARGEST_SHARE, allocate
from inference_node.pruning.thresholds import RATES, SHARES


@st.composite
def models(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Costs that get steeper, and weights."""
    layers, seed = draw(st.integers(1, 4)), draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(layers, 4, len(SHARES) - 1, generator=generator).sort(dim=-1).values
    scale = 10 ** (4 * torch.rand(layers, 4, 1, generator=generator))
    costs = torch.cat((torch.zeros(layers, 4, 1), (steps * scale).cumsum(-1)), dim=-1)
    return costs, 1 + 9 * torch.rand(layers, 4, generator=generator)


def cost_of(costs: Tensor, shares: Tensor) -> float:
    """What a division costs, between the shares that are known in a straight line."""
    at = shares.double() / (SHARES[1] - SHARES[0])
    low = at.floor().long().clamp(max=len(SHARES) - 2)
    known = costs.double()
    left, right = (known.gather(-1, place.unsqueeze(-1)).squeeze(-1) for place in (low, low + 1))
    return float((left + (at - low) * (right - left)).sum())


@given(models())
def test_every_rate_is_met_and_no_site_ever_gets_back_what_it_gave(model: tuple[Tensor, Tensor]) -> None:
    costs, weights = model
    path = allocate(costs, weights, SHARES, RATES)
    met = (path * weights).sum((1, 2)) / weights.sum()
    torch.testing.assert_close(met, torch.tensor(RATES), atol=1e-4, rtol=0)
    assert bool((path.diff(dim=0) >= 0).all())
    assert float(path.max()) <= LARGEST_SHARE + 1e-6 and not path[0].any()


@given(models(), st.sampled_from([0.1, 0.25, 0.4, 0.6]), st.data())
def test_no_exchange_between_two_sites_is_cheaper(
    model: tuple[Tensor, Tensor], rate: float, data: st.DataObject
) -> None:
    costs, weights = model
    (shares,) = allocate(costs, weights, SHARES, [rate])
    one, other = (data.draw(st.integers(0, weights.numel() - 1)) for _ in range(2))
    amount = 0.01
    moved = shares.flatten().clone()
    moved[one] += amount
    moved[other] -= amount * float(weights.flatten()[one] / weights.flatten()[other])
    if one != other and moved[other] >= 0 and moved[one] <= LARGEST_SHARE:
        assert cost_of(costs, moved.view_as(shares)) >= cost_of(costs, shares) * (1 - 1e-4)
