"""The files of weights that this version brings, by the names that policies use."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Final

from connector_psi.domain.naming.judging import Weights, parse_weights
from connector_psi.errors import ConfigError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


@lru_cache(maxsize=8)
def load_shipped(version: str) -> Weights:
    """Return the weights of a version, read once.

    Args:
        version: As a policy names it, such as ``cp-names-1``.

    Raises:
        ConfigError: This version of the program does not bring them, or the file is not the one of that name.
    """
    if not _NAME.fullmatch(version):
        raise ConfigError("weights of names: no such version")
    file = resources.files("connector_psi.domain.naming").joinpath("weights", f"{version}.json")
    try:
        raw = file.read_bytes()
    except OSError:
        raise ConfigError("weights of names: a version that this program does not bring") from None
    weights = parse_weights(raw)
    if weights.version != version:
        raise ConfigError("weights of names: the file says another version than its name")
    return weights
