"""R1 with real processes: two served nodes are killed (SIGKILL) at random times while they take in, publish, query and disclose.

The people and systems of both agencies go on as they would: what was not acknowledged is sent again, matches are confirmed, cases opened
and approved. In the end nothing acknowledged is missing, every shared container is a match once, every case was disclosed once, and the
logs hold it all once and verify. The long form, ``make crash-long``, kills 1,000 times.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connector_psi import pki
from connector_psi.audit.checkpoint import verify_checkpoint
from connector_psi.audit.log import log_origin_of if False else checkpoint  # placeholder
