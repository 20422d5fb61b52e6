"""Commands of name matching: names explain, names fit, names evaluate.

Names come from files or standard input and never from the command line, where other users of the machine could read
them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from connector_psi import errors
from connector_psi.commands.output import REJECTED_SOME, AsJson, emit, err, plain, progress, say, table
from connector_psi.domain.records import Party, PartyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from connector_psi.domain.naming.judging import Weights
    from connector_psi.domain.naming.labelled import Dataset

names_app = typer.Typer(
    help="Private matching of names: why two names match or do not, how well, and with which weights.",
    no_args_is_help=True,
)

SHIPPED = "cp-names-1"
_MAX_BYTES = 1 << 20
_MAX_PROBLEMS = 20
_COLUMNS_SAY = (
    "reachable: recall of pairs that letters can show. false/background: false matches a party that matches nothing; "
    "of two scripts, how often unrelated parts agree. tokens: of a name, without places."
)
_COLUMNS = ("name", "birth date", "country", "city", "postcode")

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of labelled names.", show_default=False)]
WeightsFile = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="A file of weights; by default the one that is shipped."),
]
WantedPrecision = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        min=0.5,
        max=0.999,
        help="Wanted of what is possibly the same, where fitted; by default 0.93 to 0.97.",
    ),
]


@names_app.command("explain")
def names_explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="One party a line: name, then perhaps birth date (1980-05-17), country, city and postcode, with tabs "
            "between. `-` is standard input.",
        ),
    ] = Path("-"),
    kind: Annotated[PartyKind, typer.Option(help="What the parties are.")] = PartyKind.UNKNOWN,
    weights: WeightsFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how names are read and which tokens they give; of two names, what is equal, its points, and the verdict.

    The first of two lines asks, as a querier's party does; the second is held, as an owner's is.
    """
    from connector_psi.domain import names  # noqa: PLC0415 - tables of names take a moment to load
    from connector_psi.domain.naming import explaining  # noqa: PLC0415

    loaded = _weights(weights)
    subjects = [names.subject_of(party) for party in _parties(source, kind)]
    if not subjects:
        raise errors.ConfigError(f"{source}: no name in it")
    read = [
        explaining.explain_subject(subject, held=len(subjects) == 2 and at == 1) for at, subject in enumerate(subjects)
    ]
    compared = explaining.compare(loaded, *subjects) if len(subjects) == 2 else []
    value = {
        "weights": loaded.version,
        "parties": [r.as_json() for r in read],
        "compared": [c.as_json() for c in compared],
    }

    def text() -> None:
        for number, each in enumerate(read, start=1):
            table(f"Party {number}: how its names are read", ["name", "as", "part", "is"], each.reading)
            table(f"Party {number}: tokens", ["family", "text", "says"], each.tokens)
        for judged in compared:
            table(f"Equal keys, judged as {judged.kind}", ["equal", "text"], judged.equal)
            table("Points", ["points", "for"], judged.points)
            say(judged.verdict)

    emit(value, as_json, text)


@names_app.command("evaluate")
def names_evaluate(
    directory: Dir,
    weights: WeightsFile = None,
    precision: WantedPrecision = None,
    as_json: AsJson = False,
) -> None:
    """Measure matching of labelled names: precision, recall, false matches, intervals.

    Layouts: alerts.csv, parties.csv, truth.csv (lists against declared parties); dataset4a.csv, dataset4b.csv (FEBRL);
    pairs.csv; files with the columns native and latin (parts of names in two scripts). With --weights the figures are
    those of that file. Without, the model is fitted and its threshold chosen on four fifths of the entities and
    measured on the rest, five times.
    """
    from connector_psi.domain.naming import evaluating  # noqa: PLC0415 - numbers and tables take a moment to load

    given = None if weights is None else _weights(weights)
    dataset = _dataset(directory)
    kinds: dict[str, Any] = {}
    for labelled in dataset.sets:
        with _bar(as_json, labelled.label, len(labelled.parties)) as advance:
            kinds[labelled.label] = evaluating.evaluate_set(labelled, given, precision, advance)
    for letters in dataset.letters:
        kinds[letters.label] = evaluating.evaluate_letters(letters)

    def text() -> None:
        table(
            f"Names: {dataset.layout}",
            ["kind", "precision (95 %)", "recall (95 %)", "reachable", "false/background", "tokens"],
            [
                (
                    kind,
                    _figure(f["precision"], f["ci95"]["precision"]),
                    _figure(f["recall"], f["ci95"]["recall"]),
                    _figure(f["recall_reachable"]),
                    f"{f['false_per_background_party']:.6f}",
                    f"{f['tokens_per_name']:.1f}",
                )
                for kind, f in kinds.items()
            ],
        )
        say(_COLUMNS_SAY)
        corroborated = {kind: f["corroborated"] for kind, f in kinds.items() if "corroborated" in f}
        if corroborated:
            table(
                "With a corroborator, as policies require",
                ["kind", "precision", "recall", "false background parties"],
                [
                    (kind, _figure(f["precision"]), _figure(f["recall"]), f["false_background_parties"])
                    for kind, f in corroborated.items()
                ],
            )

    emit({"dataset": dataset.layout, "kinds": kinds}, as_json, text)
    _report(dataset)


@names_app.command("fit")
def names_fit(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of labelled names.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="WEIGHTS", help="File to write.", show_default=False)],
    version: Annotated[
        str, typer.Option("--version", metavar="NAME", help="What policies will call these weights.")
    ] = "own-names-1",
    without_source: Annotated[
        list[str] | None,
        typer.Option(
            "--without-source",
            metavar="LIST",
            help="Leave out alerts whose source_list is this, with their parties; may be given again.",
        ),
    ] = None,
    precision: WantedPrecision = None,
    as_json: AsJson = False,
) -> None:
    """Fit weights, bands and the table of rare keys to labelled names, and write them to a file.

    The file holds numbers, and keys that five or more background parties share; no name of a listed person.
    """
    from connector_psi.domain.naming import evaluating, judging  # noqa: PLC0415 - as above
    from connector_psi.encoding.atomicfile import atomic_file  # noqa: PLC0415

    datasets = [_dataset(directory, without_source or ()) for directory in directories]
    total = sum(len(labelled.parties) for dataset in datasets for labelled in dataset.sets)
    about = {
        "fitted": datetime.now(UTC).date().isoformat(),
        "layouts": sorted({dataset.layout for dataset in datasets}),
        "without_sources": sorted(without_source or ()),
    }
    with _bar(as_json, "names", total) as advance:
        fitted = evaluating.fit_datasets(datasets, version, about, advance, precision)
    raw = judging.write_weights(fitted)
    with atomic_file(out) as file:
        file.write(raw)
    digest = judging.parse_weights(raw).digest.hex()
    value = {"version": version, "sha256": digest, "kinds": [kind.label for kind in fitted.kinds], "file": str(out)}
    emit(value, as_json, lambda: say(f"{out}: {version}, {', '.join(value['kinds'])}; SHA-256 {digest}"))
    for dataset in datasets:
        _report(dataset)


def _dataset(directory: Path, without: Sequence[str] = ()) -> Dataset:
    from connector_psi.domain.naming.labelled import read_dataset  # noqa: PLC0415 - as above

    return read_dataset(directory, without_sources=without)


def _report(dataset: Dataset) -> None:
    """Say which rows were left out; the rest was used."""
    if not dataset.problems:
        return
    for problem in dataset.problems[:_MAX_PROBLEMS]:
        err.print(plain(problem), markup=False)
    if len(dataset.problems) > _MAX_PROBLEMS:
        err.print(f"... and {len(dataset.problems) - _MAX_PROBLEMS} more rows that could not be used")
    raise typer.Exit(REJECTED_SOME)


def _weights(path: Path | None) -> Weights:
    from connector_psi.domain.naming import judging, shipped  # noqa: PLC0415 - as above

    if path is None:
        return shipped.load_shipped(SHIPPED)
    try:
        return judging.parse_weights(path.read_bytes())
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error.strerror}") from None
    except errors.ConfigError as error:
        raise errors.ConfigError(f"{path}: {error}") from None


def _parties(source: Path, kind: PartyKind) -> Iterator[Party]:
    try:
        raw = sys.stdin.buffer.read(_MAX_BYTES) if str(source) == "-" else source.read_bytes()[:_MAX_BYTES]
        lines = raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise errors.ConfigError(f"{source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise errors.ConfigError(f"{source}: not UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) > len(_COLUMNS) or not cells[0]:
            raise errors.ConfigError(f"{source}: line {number}: wants {', '.join(_COLUMNS)}, with tabs between")
        cells += [""] * (len(_COLUMNS) - len(cells))
        yield Party(
            role="subject",
            kind=kind,
            name=cells[0],
            source_path=f"line {number}",
            birth_date=cells[1],
            country=cells[2],
            city=cells[3],
            postcode=cells[4],
        )


@contextmanager
def _bar(quiet: bool, what: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress(quiet) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.update(task, advance=n)


def _figure(value: float | None, within: Sequence[float] | None = None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if within is None else f"{value:.3f} ({within[0]:.3f} to {within[1]:.3f})"
