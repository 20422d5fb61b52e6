"""TOML that an operator wrote, read in bounded time.

Decides: how deep keys may be nested, and that whatever is wrong is one error. Leaves to others: how long a file may be,
which tables and keys it has (``domain.mapping``, ``node.config``).

The standard library's parser takes time with the square of the parts of a key: 64 KiB of ``a.a.a`` keep it busy for 19
seconds.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from connector_psi.errors import FormatError

MAX_KEY_PARTS: Final = 8

_PART = r"""(?:(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DEEP_KEY: Final = re.compile(rf"{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}")


def parse_toml(raw: bytes) -> dict[str, Any]:
    """Return the document of a TOML file.

    Raises:
        FormatError: Not UTF-8, not TOML, nested too deep, or anything in it, a text or comment included, reads like a
            key of more than ``MAX_KEY_PARTS`` parts. The error says what the file is, and the line if it can.

    Cost: 1 ms for 10 KiB.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise FormatError("not UTF-8") from None
    if _DEEP_KEY.search(text):
        raise FormatError(f"nested too deep, with a key of more than {MAX_KEY_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise FormatError("nested too deep") from None
    except ValueError as error:
        # The parser's own kind of failure is one, so is a number that is too long.
        place = f": {error}" if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise FormatError(f"not TOML{place}") from None
