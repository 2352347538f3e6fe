"""State on disk: whole, torn, missing, foreign."""

import stat
from pathlib import Path

import pytest

from inference_node.agent.store import Credentials, NodeStore, StoredSettings, StoreInUse
from inference_node.contract.settings import EngineSettings
from tests.support.fake_controlplane import push_of

STATE = StoredSettings(
    settings=EngineSettings(max_batch_size=3),
    generation=7,
    epoch=2,
    epoch_seen=3,
    config_hash="abc",
    desired=push_of(EngineSettings(), 8),
)


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore(tmp_path / "nodes" / "n")


class TestSettings:
    def test_a_fresh_node_has_none(self, store: NodeStore) -> None:
        assert store.load_settings() is None

    def test_come_back_as_they_were(self, store: NodeStore) -> None:
        store.save_settings(STATE)
        assert store.load_settings() == STATE

    @pytest.mark.parametrize("damage", [b"", b"{", b'{"checksum": "no", "body": {}}', b"\xff\x00", b"[]", b"null"])
    def test_a_torn_file_falls_back_to_the_last_good_copy(self, store: NodeStore, damage: bytes) -> None:
        store.save_settings(STATE)
        (store.folder / "settings.json").write_bytes(damage)
        assert store.load_settings() == STATE

    def test_any_cut_of_the_file_is_recognised(self, store: NodeStore) -> None:
        store.save_settings(STATE)
        path = store.folder / "settings.json"
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, 97):
            path.write_bytes(whole[:length])
            assert store.load_settings() == STATE

    def test_with_both_copies_torn_the_node_starts_fresh(self, store: NodeStore) -> None:
        store.save_settings(STATE)
        for path in store.folder.glob("settings*.json"):
            path.write_bytes(b"{")
        assert store.load_settings() is None

    def test_a_document_of_another_version_is_not_believed(self, store: NodeStore) -> None:
        store._save("settings", {"settings": {"max_batch_size": -1}})
        assert store.load_settings() is None

    def test_leaves_no_temporary_files(self, store: NodeStore) -> None:
        store.save_settings(STATE)
        assert sorted(path.name for path in store.folder.iterdir()) == ["settings.json", "settings.last-good.json"]


class TestCredentials:
    def test_belong_to_one_control_plane(self, store: NodeStore) -> None:
        mine = Credentials(controlplane_url="http://a", node_id="n", token="t")
        store.save_credentials(mine)
        assert store.load_credentials("http://a") == mine
        assert store.load_credentials("http://b") is None

    def test_are_readable_by_the_owner_only(self, store: NodeStore) -> None:
        store.save_credentials(Credentials(controlplane_url="http://a", node_id="n", token="t"))
        assert stat.S_IMODE((store.folder / "credentials.json").stat().st_mode) == 0o600


class TestAdminToken:
    def test_is_made_once_and_kept_private(self, store: NodeStore) -> None:
        token = store.admin_token()
        assert len(token) > 40
        assert store.admin_token() == token
        assert stat.S_IMODE((store.folder / "admin_token").stat().st_mode) == 0o600


class TestLock:
    def test_one_process_at_a_time(self, store: NodeStore) -> None:
        handle = store.lock()
        with pytest.raises(StoreInUse, match="another node process"):
            store.lock()
        handle.close()
        store.lock().close()

    def test_clears_what_a_killed_process_left(self, store: NodeStore) -> None:
        store.save_settings(STATE)
        (store.folder / ".settings.json.abc").write_bytes(b"half")
        store.lock().close()
        assert not list(store.folder.glob(".settings*"))
        assert store.load_settings() == STATE
