"""UN/LOCODE that a node is given: a code in place of a city's name is that city."""

from __future__ import annotations

from pathlib import Path

import pytest

from connector_psi.domain.naming import places
from connector_psi.errors import ConfigError
from connector_psi.node.config import Layout
from tests.simulation.federation import Federation


def given(federation: Federation, path: Path) -> None:
    federation.close("ics2")
    settings = Layout(federation.root / "ics2").config
    settings.write_text(f'{settings.read_text()}\n[names]\nunlocode = ["{path}"]\n')


def test_a_code_is_the_city_that_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_LOCODES", {})
    (tmp_path / "codes.csv").write_text("locode,name\nDEHAM,Hamburg\n", encoding="utf-8")
    federation = Federation(tmp_path / "nodes")
    try:
        assert places.city_keys("DEHAM", "DE") != places.city_keys("Hamburg", "DE")
        given(federation, tmp_path / "codes.csv")
        federation.open("ics2")
        assert places.city_keys("DEHAM", "DE") == places.city_keys("Hamburg", "DE")
    finally:
        federation.close()
    places._city_keys.cache_clear()


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("nothing of the kind\n", "UN/LOCODE")])
def test_a_file_that_is_none_stops_the_node_with_the_key_named(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / "codes.csv").write_text(content, encoding="utf-8")
    federation = Federation(tmp_path / "nodes")
    try:
        given(federation, tmp_path / "codes.csv")
        with pytest.raises(ConfigError, match=f"names.unlocode: .*{why}"):
            federation.open("ics2")
    finally:
        federation.close()
