"""Extraction alone: from an entry summary declaration in a file to records, on one core.

One message of many house consignments, read as it is, which is in one pass as long as its houses can be held, and with
nothing held, as the rest of a larger message is read: twice, because what the houses share stands behind them. Beside
these, in the same run and on the same file, what libxml2 takes to parse it and nothing else, and the most memory that
the reader's process had. Every measurement has a process of its own.

    python benchmarks/extract.py --houses 20000 --json OUT
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree

from connector_psi.adapters import formats, ics2
from connector_psi.cli import tune_interpreter
from connector_psi.domain.records import Record

RUNS = 3
"""Of each measurement; the best counts, since other work on a machine can only slow it down."""

NAMESPACE = "urn:wco:datamodel:eu:ics2:2"
_ISO6346 = {char: value for value, char in enumerate("0123456789A?BCDEFGHIJK?LMNOPQRSTU?VWXYZ") if char != "?"}

_HEAD = f"""<?xml version='1.0' encoding='UTF-8'?>
<IE4R05 xmlns="{NAMESPACE}">
  <MessageHeader>
    <messageId>synthetic-1</messageId>
    <messageTimestamp>2025-03-04T09:15:00Z</messageTimestamp>
    <messageSender>CR</messageSender>
    <messageRecipient>NES.BE</messageRecipient>
  </MessageHeader>
  <functionalReference>SYNTHETIC</functionalReference>
  <relatedENS>
    <DocumentIssueDate>
      <DateTime>2025-03-01T06:00:00Z</DateTime>
    </DocumentIssueDate>
    <MRN>25BE000000000SYN01</MRN>
    <activeBorderTransportMeans>
      <identificationNumber>9074729</identificationNumber>
      <typeOfIdentification>10</typeOfIdentification>
      <nationality>PA</nationality>
    </activeBorderTransportMeans>
    <consignmentMasterLevel>
      <containerIndicator>1</containerIndicator>
      <carrier>
        <name>SYNTHETIC LINES NV</name>
        <identificationNumber>BE0123456789</identificationNumber>
      </carrier>
"""
_TAIL = """      <transportDocumentMasterLevel>
        <documentNumber>SYNL00012345678</documentNumber>
        <type>N704</type>
      </transportDocumentMasterLevel>
      <placeOfUnloading>
        <UNLOCODE>BEANR</UNLOCODE>
      </placeOfUnloading>
    </consignmentMasterLevel>
    <declarant>
      <name>SYNTHETIC LINES NV</name>
      <identificationNumber>BE0123456789</identificationNumber>
    </declarant>
  </relatedENS>
</IE4R05>
"""


def _address(city: str, country: str, code: int, number: int) -> str:
    return f"""          <address>
            <city>{city}</city>
            <country>{country}</country>
            <street>Street</street>
            <postCode>{code}</postCode>
            <number>{number}</number>
          </address>
"""


def _house(sequence: int, random_: random.Random) -> str:
    """Return a house consignment of 77 elements; what is an identifier in it is another one in each."""
    pick = random_.randrange
    box = f"MSKU{pick(10**6):06}"
    box += str(sum(_ISO6346[char] << place for place, char in enumerate(box)) % 11 % 10)
    return f"""      <consignmentHouseLevel>
        <sequenceNumber>{sequence % 100000}</sequenceNumber>
        <containerIndicator>1</containerIndicator>
        <totalGrossMass>{pick(30000)}.5</totalGrossMass>
        <consignee>
          <name>Surname{pick(10**6)}, Forename{pick(1000)}</name>
          <typeOfPerson>1</typeOfPerson>
{_address("Rotterdam", "NL", 3000 + pick(100), pick(200))}          <communication>
            <identifier>+31205{pick(10**6):06}</identifier>
            <type>TE</type>
          </communication>
        </consignee>
        <goodsItem>
          <goodsItemNumber>1</goodsItemNumber>
          <commodity>
            <descriptionOfGoods>Fresh bananas in {pick(10**4)} cartons</descriptionOfGoods>
            <commodityCode>
              <harmonizedSystemSubHeadingCode>{pick(10**6):06}</harmonizedSystemSubHeadingCode>
            </commodityCode>
          </commodity>
          <weight>
            <grossMass>{pick(30000)}.5</grossMass>
          </weight>
          <countryOfOrigin>
            <country>CO</country>
          </countryOfOrigin>
          <packaging>
            <shippingMarks>SYN/HAM/1-{pick(1000)}</shippingMarks>
            <numberOfPackages>{pick(1000)}</numberOfPackages>
            <typeOfPackages>CT</typeOfPackages>
          </packaging>
          <transportEquipment>
            <containerIdentificationNumber>{box}</containerIdentificationNumber>
          </transportEquipment>
        </goodsItem>
        <consignor>
          <name>Exportadora {pick(10**5)} S.A.S.</name>
          <typeOfPerson>2</typeOfPerson>
{_address("Turbo", "CO", 50000 + pick(999), pick(200))}        </consignor>
        <goodsShipment>
          <buyer>
            <name>Import {pick(10**5)} GmbH</name>
            <identificationNumber>DE{pick(10**14, 10**15)}</identificationNumber>
            <typeOfPerson>2</typeOfPerson>
{_address("Hamburg", "DE", 20000 + pick(999), pick(200))}          </buyer>
        </goodsShipment>
        <countriesOfRoutingOfConsignment>
          <sequenceNumber>1</sequenceNumber>
          <country>CO</country>
        </countriesOfRoutingOfConsignment>
        <countriesOfRoutingOfConsignment>
          <sequenceNumber>2</sequenceNumber>
          <country>DE</country>
        </countriesOfRoutingOfConsignment>
        <notifyParty>
          <name>Spedition {pick(10**5)} KG</name>
          <identificationNumber>DE{pick(10**14, 10**15)}</identificationNumber>
          <typeOfPerson>2</typeOfPerson>
{_address("Berlin", "DE", 10000 + pick(999), pick(200))}          <communication>
            <identifier>desk{pick(10**6)}@spedition{pick(2000)}.example</identifier>
            <type>EM</type>
          </communication>
          <communication>
            <identifier>+492213{pick(10**6):06}</identifier>
            <type>TE</type>
          </communication>
        </notifyParty>
        <transportDocumentHouseLevel>
          <documentNumber>SYNH-2025-{pick(10**9):09}</documentNumber>
          <type>N714</type>
        </transportDocumentHouseLevel>
      </consignmentHouseLevel>
"""


def write_declaration(path: Path, *, houses: int = 0, size_bytes: int = 0, seed: int = 1) -> int:
    """Write a message, house by house, until it has that many or that size. Returns how many it has."""
    random_ = random.Random(seed)
    written = count = 0
    with path.open("w", encoding="utf-8") as out:
        written += out.write(_HEAD)
        while count < houses or written < size_bytes:
            count += 1
            written += out.write(_house(count, random_))
        out.write(_TAIL)
    return count


# --- in a process of its own ---


def _extract(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(isinstance(item, Record) for item in formats.read(stream, file=path.name))


def _extract_in_two_passes(path: Path) -> int:
    ics2.MAX_HELD_BYTES = 0
    return _extract(path)


def _parse(path: Path) -> int:
    count = 0
    for _, element in etree.iterparse(path, tag=f"{{{NAMESPACE}}}consignmentHouseLevel"):
        element.clear()
        while (before := element.getprevious()) is not None:
            element.getparent().remove(before)
        count += 1
    return count


_TASKS: dict[str, Callable[[Path], int]] = {
    "one_pass": _extract,
    "two_passes": _extract_in_two_passes,
    "parse": _parse,
}


def run_task(task: str, path: Path) -> dict[str, float]:
    """Run a task in a process of its own. Returns its rate, and the most memory that the process had."""
    command = [sys.executable, __file__, "--task", task, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _task(task: str, path: Path) -> None:
    tune_interpreter()
    started = time.process_time()
    count = _TASKS[task](path)
    spent = time.process_time() - started
    print(json.dumps({"count": count, "per_s": count / spent, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    """Return the most memory that this process had.

    Not ``ru_maxrss``: that is never less than what the process had from which this one was started.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def measure(houses: int = 20_000, seed: int = 1) -> dict[str, object]:
    """Return ``{"extract": {...}}``; rates are consignments a second of processor time."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "large.xml"
        write_declaration(path, houses=houses, seed=seed)
        size_mib = path.stat().st_size / 2**20
        # Machines drift: the runs of all take turns.
        runs = [{task: run_task(task, path) for task in _TASKS} for _ in range(RUNS)]
    rates = {task: max(run[task]["per_s"] for run in runs) for task in _TASKS}
    peaks = {task: max(run[task]["peak_mib"] for run in runs) for task in _TASKS}
    return {
        "extract": {
            "figures": {
                "houses": houses,
                "message_mib": round(size_mib, 1),
                **{f"{task}_per_s": round(rate) for task, rate in rates.items()},
                **{f"{task}_peak_mib": round(peak, 1) for task, peak in peaks.items()},
            },
            "units": {"*_per_s": "house consignments a second of processor time", "*_mib": "MiB"},
            "conditions": {
                "cpus": len(os.sched_getaffinity(0)),
                "load_average": round(os.getloadavg()[0], 1),
                "seed": seed,
                "runs": RUNS,
            },
            "ratio_one_pass_to_parse": round(rates["one_pass"] / rates["parse"], 3),
            "ratio_two_passes_to_parse": round(rates["two_passes"] / rates["parse"], 3),
        }
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--houses", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        _task(options.task[0], Path(options.task[1]))
        return
    result = measure(options.houses, options.seed)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
