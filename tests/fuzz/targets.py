"""Every decoder of this project that takes bytes from outside, as targets.

What is sealed or signed is reached from both sides: as it comes from anybody, and as it comes from a peer that holds
the key and means ill; then the harness seals or signs what was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

from tests.fuzz import (
    file_targets,
    format_targets,
    identifier_targets,
    log_targets,
    message_targets,
    set_targets,
    table_targets,
)
from tests.fuzz.harness import Target

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in chain(
            message_targets.targets(),
            set_targets.targets(),
            log_targets.targets(),
            file_targets.targets(),
            identifier_targets.targets(),
            table_targets.targets(),
            format_targets.targets(),
        )
    }
)
"""By name, in the order in which they are run."""
