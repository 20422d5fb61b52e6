"""The state of a node as tables, for whoever watches it. They fit 100 columns.

Decides: how ages, shares and queues are shown. Leaves to others: what they are (``node.status``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from connector_psi.commands.output import listing, table

Status = Mapping[str, Any]
_BAR = 10
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def show(value: Status) -> None:
    """Print the state of a node as ``GetStatus`` gave it."""
    head = f"{value['authority']} ({value['role']}){', synthetic data only' if value['synthetic'] else ''}"
    listing(head, _facts(value))
    _table("Peers", ["peer", "role", "reachable", "last answered", "last failed", "last called here"], _peers(value))
    _table(
        "Agreements",
        ["agreement", "side", "status", "epoch", "set age", "expires in", "content", "deltas"],
        map(_agreement, value["agreements"]),
    )
    _table("Capacity used (UTC)", ["agreement", "class", "today", "year"], _capacities(value))
    _table("Waiting", ["what", "for", "waiting", "oldest", "attempts", "parked"], _queues(value))
    _table("Witnesses", ["witness", "cosigned", "behind"], _witnesses(value))


def age(seconds: float | None) -> str:
    """Return a time in its two largest units, such as ``3 d 4 h``; what is over has a minus sign."""
    if seconds is None:
        return "-"
    left, sign, parts = abs(int(seconds)), "-" if seconds < 0 else "", []
    for size, name in _UNITS:
        if left >= size:
            parts.append(f"{left // size} {name}")
        left %= size
    return sign + " ".join([*parts, *([] if len(parts) > 1 else [f"{left} s"])][:2])


def bar(used: int, of: int) -> str:
    """Return how much of a limit is used, as a bar and in percent."""
    if not of:
        return "nothing allowed"
    share = used / of
    full = min(_BAR, round(share * _BAR))
    return f"{'█' * full}{'░' * (_BAR - full)} {share:.0%} of {_short(of)}"


def _short(number: int) -> str:
    for size, name in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= size:
            return f"{number / (1_000 if name == 'k' else size):.4g} {name}"
    return str(number)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    lines = [*rows]
    if lines:
        table(title, columns, lines)


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in found.items()) or "none"


def _facts(value: Status) -> Iterator[tuple[str, object]]:
    yield "answering", "yes" if value["alive"] else f"no: {value['stopped_by']}"
    yield "ready", "yes" if value["ready"] else f"no: {', '.join(value['reasons'])}"
    yield "records", value["records"]
    for name in ("matches", "cases", "access", "recalls"):
        yield name, _counts(value[name])
    yield "alarms", "; ".join(map(_alarm, value["alarms"])) or "none"
    if "clock" in value:
        clock = value["clock"]
        yield "clock", f"{clock['state']}, {age(clock['behind_s'])} behind {clock['high_water']}"
    log = value["log"]
    yield "log", f"{log['size']} entries, {log['signed_size']} signed"
    for fork in log["forks"]:
        yield "FORKED LOG", f"{fork['origin']}, at {fork['size']}"
    yield "policy", f"{value['policy']['hash']}, in force since {value['policy']['since']}"
    for signer in value["policy"]["signed_by"]:
        yield "signed by", f"{signer['person']} ({signer['role']}), {signer['time']}"
    yield "PRF backend", value["backend"]
    yield "console", value["console"] or "not served"


def _alarm(alarm: Mapping[str, Any]) -> str:
    return f"{alarm['code']} {alarm['agreement']} ({alarm['side']}): {alarm['count']}"


def _peers(value: Status) -> Iterator[Sequence[object]]:
    for peer in value["contacts"]:
        reachable = {None: "not tried", True: "yes", False: f"no, {peer['failures']} calls"}[peer["reachable"]]
        ages = [age(peer[name]) for name in ("answered_s", "failed_s", "heard_s")]
        yield peer["authority"], peer["role"], reachable if peer["active"] else "revoked", *ages


def _agreement(line: Mapping[str, Any]) -> Sequence[object]:
    deltas = f"{line['delta_seq']}, {age(line.get('fresh_s'))} old" if "delta_seq" in line else "-"
    return (
        line["agreement"],
        line["side"],
        line["status"] if line["runs"] else f"{line['status']}, stopped",
        line["epoch"],
        age(line["set_age_s"]),
        age(line["expires_in_s"]),
        f"{line['pending_records']} pending" if "pending_records" in line else f"{line['tokens']} tokens",
        deltas,
    )


def _capacities(value: Status) -> Iterator[Sequence[object]]:
    for line in value["agreements"]:
        for name, today in line.get("capacity_today", {}).items():
            year = line["capacity_year"][name]
            if today["of"] or year["of"]:
                yield line["agreement"], name, bar(today["used"], today["of"]), bar(year["used"], year["of"])


def _queues(value: Status) -> Iterator[Sequence[object]]:
    for line in value["agreements"]:
        if line.get("open_batches"):
            yield "queries", line["agreement"], line["open_batches"], age(line["oldest_batch_s"]), "-", "-"
    for queue in value.get("queues", ()):
        yield (
            queue["kind"],
            queue["peer"],
            queue["waiting"],
            age(queue.get("oldest_s")),
            queue.get("attempts", "-"),
            queue.get("parked", 0),
        )


def _witnesses(value: Status) -> Iterator[Sequence[object]]:
    signed = value["log"]["signed_size"]
    for name, size in value["log"]["witnesses"].items():
        yield name, size, max(0, signed - size)
