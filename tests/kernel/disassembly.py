"""Constant time by reading the machine code: no branch and no address of the functions that hold secrets depends on them.

    python tests/kernel/disassembly.py OBJECT [FUNCTION ...]

For code whose secrets lie in vectors, which is all of the kernel but scalar arithmetic (``scalar.h``, checked by valgrind).
In a function of the list, a general register is *tainted* once a value can reach it from a vector or a mask register, from
memory that is not the function's own frame, or from a place of the frame that a vector was stored to and no general
register; taint spreads by moves, arithmetic and places of the frame, along the ways that the code can take. Refused are

- conditional jumps and moves whose flags come from a tainted register, such memory, or a test of vectors or masks;
- addresses made of tainted registers; gather and scatter instructions; divisions;
- calls of functions that are not on the list, but for those that copy and fill memory.

What this cannot show: that an instruction takes as long for every operand. A place of the frame that held a vector first
and a counter later is taken for the counter's. What a function is called with is taken for public pointers and counts, as
the source says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SECRET_FUNCTIONS = frozenset(
    {
        "point_mul", "base_mul", "table_make", "point_add_points", "points_double_encode", "point_from_uniform",
        "point_encode", "fe_invert", "fe_sqrt_ratio", "fe_sqrt_ratio_pair", "sha512_compress",
        "fe_multiply", "fe_square", "fe_mulw_into", "fe_sqw_into",
    }
)  # fmt: skip
HARMLESS_CALLS = frozenset({"memcpy", "memset", "memmove"})

_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\s+(?:(?:rep|repz|bnd|notrack|cs|ds)\s+)*(\S+)\s*(.*)$")
_RELOCATION = re.compile(r"R_X86_64_PL(?:T|C)32\s+([\w.]+)")
_REGISTER = re.compile(r"%([a-z0-9]+)")
_MEMORY = re.compile(r"(-?0x[0-9a-f]+|-?\d+)?\(([^)]*)\)")
_FRAME = frozenset({"rsp", "rbp"})
_WIDTHS = {"zmm": 64, "ymm": 32, "xmm": 16}
_FLAGS_OF_VECTORS = re.compile(r"^(kortest|ktest|v?ptest|vtestp|v?u?comis)")
_SETS_FLAGS = re.compile(
    r"^(cmp|test|add|sub|and|or|xor|inc|dec|neg|sh[lr]|sar|sal|adc|sbb|bt|imul|mul|popcnt|tzcnt|lzcnt|bs[fr])"
)
_OVERWRITES = re.compile(r"^(mov|lea|pop|kmov|vmov[dq]$)")
_CONDITIONAL = re.compile(r"^(j(?!mp)|cmov|set)[a-z]+$")


class Finding(NamedTuple):
    """What is wrong at one instruction."""

    function: str
    address: str
    instruction: str
    problem: str


class _Instruction(NamedTuple):
    address: str
    name: str
    operands: str
    called: str = ""

    @property
    def text(self) -> str:
        return f"{self.name} {self.operands}"


@dataclass
class _Frame:
    """A function's own memory, by base register and offset."""

    vectors: list[tuple[str, int, int]]
    """Where vectors are stored, with their sizes."""
    general: set[tuple[str, int]]
    """Where general registers are stored."""
    tainted: set[tuple[str, int]]

    def holds_vector(self, where: tuple[str, int]) -> bool:
        base, at = where
        return any(base == other and start - 8 < at < start + size for other, start, size in self.vectors)


def check_object(path: Path, functions: frozenset[str] = SECRET_FUNCTIONS) -> tuple[set[str], list[Finding]]:
    """Return the names of the functions that were found and checked, and what is wrong with them."""
    command = ["objdump", "-dr", "--no-show-raw-insn", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    checked, findings = set(), []
    for name, body in _functions(listing):
        if name in functions:
            checked.add(name)
            findings += _check(name, body, functions)
    return checked, findings


def _functions(listing: str) -> Iterator[tuple[str, list[_Instruction]]]:
    name, body = "", list[_Instruction]()
    for line in [*listing.splitlines(), "0 <>:"]:
        if (begun := _FUNCTION.match(line)) or line == "0 <>:":
            if name:
                yield name, body
            # What gcc makes of a function for some of its callers is the same function.
            name, body = begun[1].split(".")[0] if begun else "", []
        elif found := _INSTRUCTION.match(line):
            if not found[2].startswith("nop"):
                target = re.search(r"<([^.+>]+)", found[3])
                operands = found[3].split("#")[0].split("<")[0].strip()
                body.append(_Instruction(found[1], found[2], operands, target[1] if target else ""))
        elif body and (relocated := _RELOCATION.search(line)):
            body[-1] = body[-1]._replace(called=relocated[1].split(".")[0])


def _check(function: str, body: list[_Instruction], functions: frozenset[str]) -> Iterator[Finding]:
    frame = _Frame(
        vectors=[place for each in body if (place := _vector_store(each))],
        general={place for each in body if (place := _general_store(each))},
        tainted=set(),
    )
    while True:
        before = len(frame.tainted)
        tainted = _taint(body, frame)
        for each, registers in zip(body, tainted, strict=True):
            place = _general_store(each)
            if place and (_reads_taint(each, registers, frame) or _reads_vector(each)):
                frame.tainted.add(place)
        if len(frame.tainted) == before:
            break
    flags_tainted = False
    for each, registers in zip(body, tainted, strict=True):
        problem = ""
        inner = [register for _, inner in _MEMORY.findall(each.operands) for register in _REGISTER.findall(inner)]
        if _CONDITIONAL.match(each.name) and flags_tainted:
            problem = "a condition depends on data"
        elif re.search(r"(gather|scatter)", each.name):
            problem = "an address depends on a vector"
        elif re.match(r"^i?div", each.name):
            problem = "a division"
        elif any(_family(register) in registers for register in inner):
            problem = "an address depends on data"
        elif each.name.startswith("call") and each.called not in functions | HARMLESS_CALLS:
            problem = "a call of a function that is not checked"
        if problem:
            yield Finding(function, each.address, each.text, problem)
        if _FLAGS_OF_VECTORS.match(each.name):
            flags_tainted = True
        elif _SETS_FLAGS.match(each.name):
            flags_tainted = _reads_taint(each, registers, frame)


def _taint(body: list[_Instruction], frame: _Frame) -> list[set[str]]:
    """Return the registers that are tainted before each instruction, on some way there."""
    index = {each.address: at for at, each in enumerate(body)}
    before: list[set[str]] = [set() for _ in body]
    waiting = list(range(len(body)))
    while waiting:
        at = waiting.pop()
        each, state = body[at], set(before[at])
        if target := _general_target(each):
            if _reads_taint(each, state, frame) or _reads_vector(each):
                state.add(target)
            elif _OVERWRITES.match(each.name):
                state.discard(target)
        following = [] if each.name in {"jmp", "ret"} else [at + 1]
        if each.name.startswith("j") and each.operands in index:
            following.append(index[each.operands])
        for then in following:
            if then < len(body) and not state <= before[then]:
                before[then] |= state
                waiting.append(then)
    return before


def _operands(text: str) -> list[str]:
    return re.findall(r"[^,(]*\([^)]*\)[^,]*|[^,]+", text)


def _family(register: str) -> str:
    """Return the 64-bit name of a general register."""
    if match := re.fullmatch(r"r(\d+)[dwb]?", register):
        return f"r{match[1]}"
    short = register[1:] if re.fullmatch(r"[re][a-z]{2}", register) else register
    short = {"al": "ax", "ah": "ax", "bl": "bx", "bh": "bx", "cl": "cx", "ch": "cx", "dl": "dx", "dh": "dx",
             "sil": "si", "dil": "di", "bpl": "bp", "spl": "sp"}.get(short, short)  # fmt: skip
    return f"r{short}"


def _is_vector(register: str) -> bool:
    return register[:3] in _WIDTHS or bool(re.fullmatch(r"k[0-7]", register))


def _general_target(each: _Instruction) -> str | None:
    operands = _operands(each.operands)
    if not operands or (
        each.name.startswith(("cmp", "test", "j", "call", "push", "v", "k"))
        and not each.name.startswith(("vmov", "kmov", "vpextr", "vpmov", "vcvt"))
    ):
        return None
    target = operands[-1].strip()
    registers = _REGISTER.findall(target)
    if "(" in target or not registers or _is_vector(registers[0]):
        return None
    return _family(registers[0])


def _reads_vector(each: _Instruction) -> bool:
    sources = _operands(each.operands)[:-1]
    return any(_is_vector(register) for source in sources for register in _REGISTER.findall(source))


def _reads_taint(each: _Instruction, tainted: set[str], frame: _Frame) -> bool:
    for operand in _operands(each.operands):
        if "(" not in operand:
            if any(_family(register) in tainted for register in _REGISTER.findall(operand) if not _is_vector(register)):
                return True
        elif not each.name.startswith("lea"):
            place, inner = _MEMORY.findall(operand)[0]
            registers = _REGISTER.findall(inner)
            if registers[:1] == ["rip"]:
                continue  # constants of the program
            if registers[0] not in _FRAME or len(registers) > 1:
                if not _is_own_store(each, operand):
                    return True
            else:
                where = registers[0], int(place or "0", 0)
                held = where in frame.tainted or (where not in frame.general and frame.holds_vector(where))
                if held and not _is_own_store(each, operand):
                    return True
    return False


def _is_own_store(each: _Instruction, operand: str) -> bool:
    """Tell whether an instruction writes the memory that it names, and does not read it."""
    return each.name.startswith("mov") and _operands(each.operands)[-1] == operand


def _general_store(each: _Instruction) -> tuple[str, int] | None:
    """Return the place of the frame that an instruction moves a general register or a number to."""
    operands = _operands(each.operands)
    if not each.name.startswith("mov") or len(operands) != 2 or "(" not in operands[1] or "(" in operands[0]:
        return None
    place, inner = _MEMORY.findall(operands[1])[0]
    registers = _REGISTER.findall(inner)
    return (registers[0], int(place or "0", 0)) if registers[0] in _FRAME and len(registers) == 1 else None


def _vector_store(each: _Instruction) -> tuple[str, int, int] | None:
    operands = _operands(each.operands)
    if len(operands) < 2 or "(" not in operands[-1] or not each.name.startswith("v"):
        return None
    source = [register for register in _REGISTER.findall(operands[0]) if register[:3] in _WIDTHS]
    place, inner = _MEMORY.findall(operands[-1])[0]
    registers = _REGISTER.findall(inner)
    if not source or registers[0] not in _FRAME:
        return None
    return registers[0], int(place or "0", 0), _WIDTHS[source[0][:3]]


def main() -> int:
    """Print what was checked and what is wrong; return 1 if anything is."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    functions = frozenset(sys.argv[2:]) or SECRET_FUNCTIONS
    checked, findings = check_object(Path(sys.argv[1]), functions)
    for each in findings:
        print(f"{each.function}+{each.address}: {each.problem}: {each.instruction}")
    print(
        f"{Path(sys.argv[1]).name}: {len(checked)} functions read, {len(findings)} findings: {', '.join(sorted(checked))}"
    )
    return 1 if findings or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
