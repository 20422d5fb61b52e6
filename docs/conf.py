"""Sphinx configuration; ``make docs`` builds docs/_build."""

from __future__ import annotations

import tomllib
from pathlib import Path

_PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = "connector_psi"
release = _PROJECT["version"]
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"connector_psi {release}"
exclude_patterns = ["_build"]
# Pages link to files of the repository too, which are not pages.
suppress_warnings = ["myst.xref_missing"]
myst_heading_anchors = 4
# Pages bring their own icons and fonts; nothing is fetched from elsewhere.
html_show_sphinx = False
