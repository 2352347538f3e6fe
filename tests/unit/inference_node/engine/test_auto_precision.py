"""precision=auto: which formats are timed, and which of them wins."""

import pytest

from inference_node.contract.settings import Precision
from inference_node.engine.auto_precision import candidates, fastest
from inference_node.engine.hardware_table import hardware_class

FP32, BF16, INT8, INT4 = Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4
ALL = (FP32, BF16, INT8, INT4)
VNNI = frozenset({"avx512_vnni", "avx512f", "avx512bw", "avx512vl", "avx2", "fma"})
AMX = VNNI | {"amx_tile", "amx_bf16", "amx_int8", "avx512_bf16"}


class TestCandidates:
    @pytest.mark.parametrize(
        ("features", "offered", "batch", "expected"),
        [
            (AMX, ALL, 1, (BF16, INT8, INT4)),
            (AMX, ALL, 32, (BF16, INT8)),
            (AMX, (FP32, BF16), 1, (BF16,)),  # a family that the native kernels do not cover
            (
                VNNI,
                ALL,
                1,
                (FP32, INT8, INT4),
            ),  # bf16 is no native arithmetic there, yet full precision must be among them
            (frozenset({"asimd"}), (FP32, BF16), 4, (FP32,)),
            (frozenset(), (BF16,), 1, (BF16,)),
        ],
    )
    def test_are_the_tables_widest_first_with_a_full_one(
        self,
        features: frozenset[str],
        offered: tuple[Precision, ...],
        batch: int,
        expected: tuple[Precision, ...],
    ) -> None:
        assert candidates(hardware_class(features), offered, batch) == expected


class TestFastest:
    @pytest.mark.parametrize(
        ("costs", "expected"),
        [
            ({BF16: 1.0, INT8: 0.5, INT4: 0.3}, INT4),
            ({BF16: 1.0, INT8: 0.95, INT4: 0.97}, BF16),  # not worth the answers
            ({BF16: 1.0, INT8: 0.7, INT4: 0.68}, INT8),
            ({BF16: 1.0, INT8: 1.5, INT4: 0.8}, INT4),
            ({BF16: 1.0, INT8: 0.92, INT4: 0.85}, INT4),  # small gains add up to one that counts
            ({BF16: 1.0}, BF16),
        ],
    )
    def test_narrower_only_when_it_pays(self, costs: dict[Precision, float], expected: Precision) -> None:
        assert fastest(costs) is expected
