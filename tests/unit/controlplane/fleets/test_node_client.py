import pytest

from controlplane.fleets.node_client import NodeClient, NodeUnreachable
from inference_node.contract.settings import EngineSettings
from tests.support.fake_controlplane import push_of


@pytest.mark.parametrize("url", ["http://host:x", "http://" + "x" * 64])
def test_an_address_that_is_none_is_a_node_out_of_reach(url: str) -> None:
    """Whatever else it raised would leave the debt neither paid nor given up."""
    with NodeClient(timeout_s=1) as client, pytest.raises(NodeUnreachable, match="does not answer"):
        client.push(url, "a-token-of-some-length", push_of(EngineSettings(), 1))
