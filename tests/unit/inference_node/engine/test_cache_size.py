"""The size of a node's KV cache."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inference_node.config import ConfigInvalid, NodeConfig
from inference_node.contract.settings import KvPrecision, Precision
from inference_node.engine import hardware
from inference_node.engine.cache_size import cache_tokens, kv_room_bytes
from inference_node.model.backend import describe
from tests.support.models import save_tiny_model

PLENTY = 1 << 40

Size = Callable[..., int]


@pytest.fixture
def size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Size:
    folder = save_tiny_model(tmp_path / "model")
    spec = describe(folder)

    def asked(free: int, max_model_len: int, kv_tokens: int | None = None) -> int:
        monkeypatch.setattr(hardware, "available_bytes", lambda: free)
        config = NodeConfig(model=folder, max_model_len=max_model_len, kv_tokens=kv_tokens)
        return cache_tokens(config, spec, max_model_len, kv_room_bytes(spec, Precision.BF16), KvPrecision.MODEL)

    return asked


class TestCacheTokens:
    def test_what_is_configured_is_taken(self, size: Size) -> None:
        assert size(PLENTY, 256, kv_tokens=4096) == 4096

    def test_the_usual_size_holds_the_longest_request_at_least(self, size: Size) -> None:
        usual = size(PLENTY, 2048)
        assert 2048 < usual < 65_536
        assert size(PLENTY, 2 * usual) == 2 * usual

    def test_less_memory_is_a_smaller_cache(self, size: Size) -> None:
        assert 64 <= size(1 << 22, 64) < size(PLENTY, 64)

    def test_a_cache_below_one_request_is_refused(self, size: Size) -> None:
        with pytest.raises(ConfigInvalid, match=r"kv_tokens=128 is less.*NODE_KV_TOKENS"):
            size(PLENTY, 256, kv_tokens=128)
        with pytest.raises(ConfigInvalid, match="the free memory"):
            size(1 << 16, 2048)
