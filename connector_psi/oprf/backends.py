"""Which backend of the group port serves this process."""

from __future__ import annotations

import os
from functools import cache
from typing import Final

from connector_psi.errors import ConfigError
from connector_psi.oprf.group import BatchGroup
from connector_psi.oprf.native import KERNELS, KernelGroup
from connector_psi.oprf.sodium import SodiumGroup

BACKEND_VARIABLE: Final = "CONNECTOR_PSI_BACKEND"
LIBSODIUM: Final = "libsodium"


def backend_names() -> tuple[str, ...]:
    """Return the backends that run here, the fastest first; libsodium is always the last."""
    return (*KERNELS, LIBSODIUM)


def make_group(backend: str, threads: int | None = None) -> BatchGroup:
    """Return a group of one backend.

    Args:
        backend: One of ``backend_names()``.
        threads: At least 1; by default the CPUs that this process may run on.

    Raises:
        ConfigError: The backend does not run here.
    """
    return SodiumGroup(threads) if backend == LIBSODIUM else KernelGroup(backend, threads)


@cache
def default_group() -> BatchGroup:
    """Return the process's group, on the CPUs that the process may use.

    It is the fastest that runs here, or the one that the environment variable ``CONNECTOR_PSI_BACKEND`` names. All give
    the same results.

    Raises:
        ConfigError: The variable names another, the kernel miscalculates, or libsodium cannot be loaded.

    Cost: where libsodium serves, the first call loads it (about 0.1 s).
    """
    chosen = os.environ.get(BACKEND_VARIABLE) or backend_names()[0]
    if chosen not in backend_names():
        raise ConfigError(f"{BACKEND_VARIABLE}: not one of {', '.join(backend_names())}, which run here")
    return make_group(chosen)


def backend_name() -> str:
    """Return the name and version of the default group's implementation."""
    return default_group().name
