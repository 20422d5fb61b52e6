"""What the project's own exchange formats have in common: JSON Lines and CSV of one format, versions, withdrawal.

Decides: what each line goes through, in this order: keys that are not known, withdrawal, the model, the records. A line
with ``withdrawn`` needs its key and its time and nothing else, and takes back whatever lines of that key said up to
then. The time of a line orders what is known of one key; a line without a time counts as older than any with one.
Leaves to others: how a file falls into lines (``lines``), the models and what a line yields (each adapter), what things
are described by (``things``).

A message with entities has a record for each, ``{key}/{position}``, counted from 1. In CSV a row is one entity, says
its number, and stands for itself: nothing then tells where a message ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, StrictBool, StringConstraints, create_model
from pydantic import Field as Constraint

from connector_psi.domain.drafts import Draft, filled
from connector_psi.domain.intake import Format, Item, Kind
from connector_psi.domain.lines import (
    WITHDRAWN,
    Column,
    Line,
    Model,
    NotEmpty,
    Reference,
    Spot,
    Time,
    UnknownKeys,
    parse,
    read_csv_rows,
    read_json_lines,
)
from connector_psi.domain.purposes import HandlingCode
from connector_psi.domain.records import Issue, Rank, Record, SourceSystem, Supersession, version_of
from connector_psi.domain.things import KINDS, Described, Entity, Label, describe, settled
from connector_psi.domain.things import Kind as KindOfThing

MAX_ENTITIES: Final = 10_000
"""Of one message."""

# From: Europol's 4x4 system: reliability of the source, accuracy of the information.
EvaluationCode = Annotated[str, StringConstraints(pattern=r"^[ABCX][1-4]$")]
# From: Regulation (EU) 2016/794, Annex II.A, point 1; "none" for an entity that is linked to no person.
SubjectClass = Literal["suspect", "convicted", "potential_offender", "none"]
DEFAULT_HANDLING_CODES: Final = (HandlingCode.H2, HandlingCode.H3)
"""Of what its provider gave no code: the strictest reading."""

Role = Literal[
    "subject", "consignor", "consignee", "carrier", "declarant", "representative", "notify_party", "buyer", "seller",
    "owner", "driver",
]  # fmt: skip


class Involved(Entity):
    """An entity of a message."""

    role: Role | None = None


EntityT = TypeVar("EntityT", bound=Involved)


class Dated(Described):
    """What any line can say beside its subject."""

    valid_until: Time | None = None
    withdrawn: StrictBool = False


class Message(Dated, Generic[EntityT]):
    """A line of JSON with entities."""

    entities: Annotated[tuple[EntityT | None, ...], Constraint(max_length=MAX_ENTITIES), NotEmpty]
    """None stands for one that cannot be read."""


class Row(Dated, Generic[EntityT]):
    """A row of CSV with one entity."""

    entity_number: Annotated[int, Constraint(ge=1, le=MAX_ENTITIES)]
    """Its position in its message."""
    entity: EntityT


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Model]):
    """An exchange format, in both of its forms."""

    name: str
    """Of the formats, before ``-jsonl`` and ``-csv``."""
    source: SourceSystem
    description: str
    key: str
    """The key that names what a line is about, and that tells the format from others."""
    time: str
    """The key with the time of a line."""
    line: type[Model]
    """Model of a line of JSON."""
    row: type[Model]
    """Model of a row of CSV."""
    columns: Mapping[str, Column]
    things: frozenset[str]
    """Keys under which things are described: what is wrong below them costs itself."""
    records: Callable[[Model, Line, str], Iterator[Item]]
    """Model, line and file -> records, each after its issues."""
    refusal: Callable[[Line], tuple[str, str] | None] = lambda _: None
    """Key and code of what is refused before the rest of a line is looked at."""

    def formats(self) -> tuple[Format, ...]:
        """Return the two formats, for discovery."""
        return tuple(
            Format(f"{self.name}-{kind}", self.source, kind, self.description, frozenset({self.key}), read)
            for kind, read in ((Kind.JSONL, self._read_jsonl), (Kind.CSV, self._read_csv))
        )

    def _read_jsonl(self, stream: BinaryIO, file: str, _schemas: Path | None) -> Iterator[Item]:
        return self._read(read_json_lines(stream, file=file), self.line, file)

    def _read_csv(self, stream: BinaryIO, file: str, _schemas: Path | None) -> Iterator[Item]:
        return self._read(read_csv_rows(stream, file=file, columns=self.columns), self.row, file)

    def _read(self, lines: Iterable[Line | Issue], model: type[Model], file: str) -> Iterator[Item]:
        unknown, end = UnknownKeys(model, file=file), self._end(model)
        for line in lines:
            if isinstance(line, Issue):
                yield line
                continue
            yield from unknown.in_line(line)
            if line.document.get(WITHDRAWN) is True:
                yield from self._withdrawal(end, line, file)
                continue
            if (refused := self.refusal(line)) is not None:
                key, code = refused
                yield Issue(file, line.number, line.place(key), code, rejects_record=True)
                continue
            message, issues = parse(model, line, file=file, spared=self.things)
            yield from issues
            if message is not None:
                yield from self.records(message, line, file)

    def _end(self, model: type[Model]) -> type[BaseModel]:
        """Return the model of a line that takes back what earlier ones said."""
        needed: dict[str, Any] = {self.key: (Reference, ...), self.time: (Time, ...)}
        if issubclass(model, Row):
            needed["entity_number"] = (model.model_fields["entity_number"].rebuild_annotation(), ...)
        return create_model("End", __base__=Described, **needed)

    def _withdrawal(self, model: type[BaseModel], line: Line, file: str) -> Iterator[Item]:
        end, issues = parse(model, line, file=file)
        yield from issues
        if end is not None:
            values = end.model_dump()
            ref = "/".join(str(values[name]) for name in (self.key, "entity_number") if name in values)
            version = version_of(values[self.time], Rank.WITHDRAWAL)
            yield Supersession(self.source, ref, version, withdrawn=True, reason="deleted")


def entity_records(
    message: Message[EntityT] | Row[EntityT],
    line: Line,
    file: str,
    *,
    source: SourceSystem,
    ref: str,
    sent_at: datetime | None,
    note: Callable[[Draft, EntityT, list[Label]], None],
    kinds: Mapping[str, KindOfThing] = KINDS,
) -> Iterator[Item]:
    """Yield a record for each entity of a message, and then the end of the message.

    Args:
        message: Of whichever form.
        line: Where it stands.
        file: Display name, for issues.
        source: Whose message; its name in lower case begins categories and codes.
        ref: Of the message.
        sent_at: Orders the messages of one reference.
        note: Takes in what may be disclosed of an entity.
        kinds: What identifies each kind of entity here.
    """
    system, version = source.lower(), version_of(sent_at)
    message_ref = "" if isinstance(message, Row) else ref
    for position, (entity, spot) in enumerate(placed(message, line), start=1):
        if entity is None:
            yield Issue(file, line.number, spot.itself, "field.invalid", rejects_record=True)
            continue
        draft, kind = Draft(file), kinds[entity.type]
        labels = describe(draft, kind, entity, spot, system=system, role=entity.role or "")
        if not (yield from settled(draft, spot, f"{system}.{kind.lacking}")):
            continue
        note(draft, entity, labels)
        yield record_of(
            draft,
            line,
            source=source,
            source_ref=f"{ref}/{message.entity_number if isinstance(message, Row) else position}",
            category=f"{system}.{entity.type}",
            valid_until=message.valid_until,
            message_ref=message_ref,
            version=version,
        )
    if message_ref:
        yield Supersession(source, message_ref, version)


def placed(message: Message[EntityT] | Row[EntityT], line: Line) -> Iterator[tuple[EntityT | None, Spot]]:
    """Yield the entities of a message, each with its place; None for one that cannot be read."""
    if isinstance(message, Row):
        yield message.entity, Spot(line, ("entity",))
    else:
        for position, entity in enumerate(message.entities):
            yield entity, Spot(line, ("entities", position))


def record_of(
    draft: Draft,
    line: Line,
    *,
    source: SourceSystem,
    source_ref: str,
    category: str,
    valid_until: datetime | None,
    hidden: bool = False,
    message_ref: str = "",
    version: int = 0,
) -> Record:
    """Return the record that a draft became."""
    return Record(
        source=source,
        source_ref=source_ref,
        category=category,
        identifiers=tuple(draft.identifiers.values()),
        fields=filled(draft.fields),
        message_digest=line.digest,
        hidden=hidden,
        valid_until=valid_until,
        parties=tuple(draft.parties),
        message_ref=message_ref,
        version=version,
    )
