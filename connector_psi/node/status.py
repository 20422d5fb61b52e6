"""What the node says about itself: counts, ages and capacities, and nothing about any record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from connector_psi import policy
from connector_psi.audit.checkpoint import parse_vkey
from connector_psi.audit.cosignature import encode_witness_key
from connector_psi.audit.entries import encode_time
from connector_psi.domain.identifiers import NORMALISATION_VERSION
from connector_psi.encoding.manifest import decode_time, parse_manifest
from connector_psi.errors import PurposeRefusedError
from connector_psi.node import outbox
from connector_psi.node.node import OWNER, Node, from_millis, millis
from connector_psi.node.publishing import newest_set
from connector_psi.oprf.backends import backend_name
from connector_psi.storage import accesses, cases, figures, owned, policies, queried, recalls, records, witnesses
from connector_psi.storage.policies import PolicyRow

if TYPE_CHECKING:
    from connector_psi.node.alarms import Alarms
    from connector_psi.node.health import Health
    from connector_psi.node.querying import Querying

CAPACITY_ALARM_PERCENT = 80
"""Of a day's or a year's capacity: from here on the class is named in ``capacity_alarm``."""


def node_status(node: Node, querying: Querying, alarms: Alarms, health: Health) -> dict[str, object]:
    """Return the state of a node as JSON-able data; ages and times in seconds."""
    now = node.now_ms()
    reasons = health.missing()
    day = f"{node.clock.now():%Y-%m-%d}"
    with node.store.read() as tx:
        peer_codes = sorted({b.peer for b in node.agreements()})
        found = figures.matches_by_agreement(tx)
        unanswered = figures.open_batches(tx)
        agreements = []
        for bound in node.agreements():
            line: dict[str, object] = {
                "agreement": bound.code,
                "side": bound.side.value,
                "peer": bound.peer,
                "status": bound.agreement.status.value,
                "learns_first": bound.agreement.querier,
                "runs": _runs(node, bound.agreement),
            }
            if bound.side is OWNER:
                newest = newest_set(tx, bound)
                used = owned.used_today(tx, bound.code, day)
                in_year = owned.used_in_year(tx, bound.code, day[:4])
                limits = bound.agreement.capacity
                today = {c: _capacity(used.get(int(c), 0), limit.per_day) for c, limit in limits.items()}
                year = {c: _capacity(in_year.get(int(c), 0), limit.per_year) for c, limit in limits.items()}
                line |= {
                    "epoch": newest.epoch if newest else 0,
                    "tokens": newest.tokens if newest else 0,
                    "delta_seq": newest.delta_seq if newest else 0,
                    "fresh_s": _age(now, newest.fresh_ms if newest else None),
                    "set_age_s": _age(now, newest.published_ms if newest else None),
                    "expires_in_s": _left(now, newest.not_after_ms if newest else None),
                    "capacity_today": {c.label: value for c, value in today.items()},
                    "capacity_year": {c.label: value for c, value in year.items()},
                    "capacity_alarm": [c.label for c in limits if any(map(_is_short, (today[c], year[c])))],
                }
            else:
                taken = queried.current_set(tx, bound.code)
                snapshot_ms = millis(decode_time(parse_manifest(taken.manifest).source_snapshot)) if taken else None
                waiting = unanswered.get(bound.code)
                line |= {
                    "epoch": taken.epoch if taken else 0,
                    "set_age_s": _age(now, snapshot_ms),
                    "delta_seq": taken.delta_seq if taken else 0,
                    "fresh_s": _age(now, querying.fresh_until_ms(bound.code) if taken else None),
                    "live_tokens": querying.live_tokens(bound.code),
                    "turning": querying.turning(bound.code),
                    "matches": found.get(bound.code, {}),
                    "open_batches": waiting.count if waiting else 0,
                    "oldest_batch_s": _age(now, waiting.oldest_ms if waiting else None),
                    "pending_records": querying.pending(bound.code),
                    "weak_matches": queried.weak_count(tx, bound.code, taken.epoch) if taken else 0,
                    "expires_in_s": _left(now, taken.not_after_ms if taken else None),
                }
            agreements.append(line)
        size = node.entries.size(tx)
        status: dict[str, object] = {
            "authority": node.authority,
            "role": node.config.node.role.value,
            "synthetic": node.synthetic,
            "ready": not reasons,
            "reasons": [str(reason) for reason in reasons],
            "alive": node.fatal is None,
            "stopped_by": node.fatal.code if node.fatal else None,
            "backend": backend_name(),
            "normalisation_version": NORMALISATION_VERSION,
            "policy": _policy(node, policies.in_force(tx)),
            "peers": peer_codes,
            "contacts": [_contact(node, now, code) for code in peer_codes],
            "records": records.count_live(tx),
            "agreements": agreements,
            "matches": queried.count_matches(tx),
            "cases": cases.count_cases(tx),
            "alarms": [asdict(alarm) for alarm in alarms.current(tx)],
            "access": accesses.count(tx),
            "recalls": recalls.count_recalls(tx),
            "queues": outbox.queues(tx, now),
            "clock": node.timekeeping.status(),
        }
    checkpoint = node.signed_checkpoint()
    status["log"] = {
        "origin": node.signer.name,
        "size": size,
        "signed_size": checkpoint.size if checkpoint else 0,
        **_witnesses(node),
    }
    return status


def _contact(node: Node, now: int, authority: str) -> dict[str, object]:
    """When a peer was reached and when it called, as far as this process knows."""
    contact = node.contacts.of(authority)
    return {
        "authority": authority,
        "role": role.value if (role := node.role_of(authority)) else None,
        "active": node.has_peer(authority),
        "reachable": contact.reachable,
        "answered_s": _age(now, contact.answered_ms or None),
        "failed_s": _age(now, contact.failed_ms or None),
        "failures": contact.failures,
        "heard_s": _age(now, contact.heard_ms or None),
    }


def _witnesses(node: Node) -> dict[str, object]:
    """Up to which size each witness cosigned this log, what this node cosigned of others, and forks that were found."""
    vkeys = {parse_vkey(vkey).name: vkey for vkey in node.log_vkeys()}
    with node.store.read() as tx:
        return {
            "witnesses": {key.name: node.entries.cosigned_by(tx, key.name) for key in node.asked_witnesses()},
            "witness_keys": [encode_witness_key(key) for key in node.asked_witnesses()],
            "witnessed": [
                {"origin": row.origin, "size": row.size, "seen": _time(row.seen_ms)}
                for row in witnesses.list_witnessed(tx)
            ],
            "forks": [
                {
                    "origin": row.origin,
                    "size": row.size,
                    "found": _time(row.found_ms),
                    "first": row.first.decode(),
                    "second": row.second.decode(),
                    "vkey": vkeys.get(row.origin, ""),
                }
                for row in witnesses.list_forks(tx)
            ],
        }


def _capacity(used: int, of: int) -> dict[str, int]:
    return {"used": used, "left": max(0, of - used), "of": of}


def _is_short(capacity: dict[str, int]) -> bool:
    # A class of which nothing may be asked is not short of anything.
    return 0 < capacity["of"] * CAPACITY_ALARM_PERCENT <= capacity["used"] * 100


def _policy(node: Node, row: PolicyRow | None) -> dict[str, object]:
    """The policy in force: its hash, since when, who signed the file that is there, and when."""
    return {
        "hash": node.policy.pack_hash.hex(),
        "since": _time(row.in_force_ms) if row else None,
        "signed_by": [
            {"person": s.person.id, "role": s.person.role.value, "time": encode_time(s.time)}
            for s in node.policy.signers
        ],
    }


def _runs(node: Node, agreement: policy.Agreement) -> bool:
    try:
        node.check_runnable(agreement)
    except PurposeRefusedError:
        return False
    return True


def _age(now: int, then: int | None) -> int | None:
    return None if then is None else max(0, (now - then) // 1000)


def _left(now: int, then: int | None) -> int | None:
    return None if then is None else (then - now) // 1000


def _time(ms: int) -> str:
    return f"{from_millis(ms):%Y-%m-%dT%H:%M:%SZ}"
