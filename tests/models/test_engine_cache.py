from __future__ import annotations

import json
import os
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest

from vrseg.errors import ConfigError
from vrseg.models.engine_cache import EngineCache, engines_folder

if TYPE_CHECKING:
    from pathlib import Path

KEY = "0123abcd"


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache" / "engines")


def test_what_was_stored_is_found_again(cache: EngineCache) -> None:
    assert cache.find(KEY) is None
    stored = cache.store(KEY, b"plan", {"precision": "fp16"})
    found = cache.find(KEY)
    assert found == stored
    assert found is not None
    assert found.plan.read_bytes() == b"plan"
    assert found.about["precision"] == "fp16"
    assert [one.key for one in cache.engines()] == [KEY]


def test_only_the_owner_can_read_or_write_what_is_stored(cache: EngineCache) -> None:
    plan = cache.store(KEY, b"plan", {}).plan
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "no json", "other json"])
def test_a_damaged_engine_is_put_aside_and_counts_as_missing(damage: str, cache: EngineCache) -> None:
    plan = cache.store(KEY, b"a plan of some length", {}).plan
    about = plan.with_suffix(".json")
    match damage:
        case "cut":
            os.truncate(plan, 5)
        case "changed":
            plan.write_bytes(b"A plan of some length")
        case "longer":
            plan.write_bytes(plan.read_bytes() + b".")
        case "no json":
            about.write_text('{"plan_sha')
        case _:
            about.write_text("[]")
    damaged = plan.read_bytes()
    assert cache.find(KEY) is None
    assert not plan.exists()
    assert plan.with_suffix(".refused").read_bytes() == damaged
    assert cache.engines() == []
    assert cache.store(KEY, b"new", {}) == cache.find(KEY)


@pytest.mark.parametrize("lost", [".plan", ".json"])
def test_half_an_engine_does_not_count(lost: str, cache: EngineCache) -> None:
    cache.store(KEY, b"plan", {}).plan.with_suffix(lost).unlink()
    assert cache.find(KEY) is None


def test_a_refused_engine_is_kept_out_of_use(cache: EngineCache) -> None:
    cache.store(KEY, b"plan", {})
    aside = cache.set_aside(KEY)
    assert aside is not None
    assert aside.read_bytes() == b"plan"
    assert cache.find(KEY) is None
    assert cache.set_aside(KEY) is None


def test_a_removed_engine_leaves_nothing(cache: EngineCache) -> None:
    cache.store(KEY, b"plan", {})
    cache.remove(KEY)
    cache.remove(KEY)
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("which", ["folder", "plan"])
def test_an_engine_that_others_can_write_is_never_used(which: str, cache: EngineCache) -> None:
    plan = cache.store(KEY, b"plan", {}).plan
    path = plan if which == "plan" else cache.folder
    path.chmod(path.stat().st_mode | 0o020)
    with pytest.raises(ConfigError, match="others can write here, and an engine is code; run: chmod go-w"):
        cache.find(KEY)
    path.chmod(path.stat().st_mode & ~0o022)
    assert cache.find(KEY) is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigError, match="set VRSEG_CACHE to a folder of your own"):
        EngineCache(tmp_path / "cache" / "engines").store(KEY, b"plan", {})


def test_a_write_that_fails_leaves_what_was_there(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, b"old", {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            cache.store(KEY, b"new", {})
    found = cache.find(KEY)
    assert found is not None
    assert found.plan.read_bytes() == b"old"
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".json", ".plan"]


def test_one_builder_at_a_time(cache: EngineCache) -> None:
    inside: list[str] = []

    def build(name: str) -> None:
        with cache.building():
            inside.append(f"{name} in")
            time.sleep(0.05)
            inside.append(f"{name} out")

    threads = [threading.Thread(target=build, args=(name,)) for name in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert inside in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


def test_timings_are_kept_between_builds(cache: EngineCache) -> None:
    with cache.building():
        assert cache.read_timings("gpu") == b""
        cache.write_timings("gpu", b"measured")
    with cache.building():
        assert cache.read_timings("gpu") == b"measured"
    assert cache.engines() == []


def test_the_folder_is_the_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VRSEG_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert engines_folder() == tmp_path / ".cache" / "vrseg" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert engines_folder() == tmp_path / "xdg" / "vrseg" / "engines"
    monkeypatch.setenv("VRSEG_CACHE", "~/own")
    assert engines_folder() == tmp_path / "own" / "engines"


def test_the_file_about_an_engine_is_plain_json(cache: EngineCache) -> None:
    plan = cache.store(KEY, b"plan", {"profile": {"picture": [[1, 3, 8, 8]]}}).plan
    about = json.loads(plan.with_suffix(".json").read_text())
    assert about["profile"] == {"picture": [[1, 3, 8, 8]]}
    assert len(about["plan_sha256"]) == 64
