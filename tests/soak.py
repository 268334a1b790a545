"""Random programs by every engine and every oracle that is installed, for as long as one likes.

    python tests/soak.py --minutes 30
    python tests/soak.py --minutes inf --programs 100000

Prints, at the end or at Ctrl-C, how many programs were tried, and the worst difference between each two
engines or oracles, in units: the errors of a computation in which each operation is one unit in the last
place of its own result off (exact.py has the definition). Below 1 is as good as floats can be expected to
be, and more than an oracle's LIMITS is a counterexample: it is made smaller, written to a script of its own,
and ends the run with status 1. Runs start from random seeds, so that they try different programs.
"""

import argparse
import hashlib
import secrets
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

from counterexample import script
from exact import Undecided
from oracles import ENGINES, INSTALLED, KINDS, compared, excess
from programs import Program, random_program

SLOW = {"native": 4, "jax": 40}  # one program in so many: their compilers take their time


def fault(program: Program, names: list[str]) -> tuple[str, dict[tuple[str, str, str], float]]:
    """What is wrong with a program, "" if nothing is, and the differences."""
    try:
        differences = compared(program, names)
    except Undecided:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}", {}
    worst, (a, b, kind) = excess(differences)
    if worst <= 1.0:
        return "", differences
    return f"{a} and {b} differ by {differences[a, b, kind]:.3g} units in the {kind}", differences


def smallest(program: Program, names: list[str]) -> Program:
    """A program that is wrong too, and of which no part can be left out."""
    while True:
        for smaller in program.smaller():
            try:
                if fault(smaller, names)[0]:
                    program = smaller
                    break
            except Undecided:
                continue
        else:
            return program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--programs", type=float, default=float("inf"), help="as many at most")
    parser.add_argument("--seed", type=int, default=None, help="of the first program (default: random)")
    parser.add_argument("--out", type=Path, default=Path(), help="where a counterexample goes")
    arguments = parser.parse_args()
    seed = first = secrets.randbits(60) if arguments.seed is None else arguments.seed
    worst: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: dict.fromkeys(KINDS, 0.0))
    worst_seed: dict[tuple[str, str], int] = {}
    undecided, end, next_line = 0, time.monotonic() + 60 * arguments.minutes, time.monotonic()
    print(f"engines and oracles: {', '.join([*ENGINES, *INSTALLED, 'mpmath'])}; seed {seed}", flush=True)
    status = 0
    try:
        while time.monotonic() < end and seed - first < arguments.programs:
            names = [name for name in [*ENGINES, *INSTALLED] if seed % SLOW.get(name, 1) == 0]
            rng = np.random.default_rng(seed)
            program = random_program(rng, max_depth=int(rng.integers(1, 13)), max_width=6, wide=True)
            try:
                said, differences = fault(program, names)
            except Undecided:
                undecided += 1
                said, differences = "", {}
            if said:
                program = smallest(program, names)
                said, _ = fault(program, names)
                text = script(program, f"Counterexample of seed {seed}: {said}.")
                name = f"counterexample_{hashlib.sha256(text.encode()).hexdigest()[:8]}.py"
                (arguments.out / name).write_text(text)
                print(f"seed {seed}: {said}; see {arguments.out / name}\n{program.source}")
                status = 1
                break
            for (a, b, kind), units in differences.items():
                if units >= max(worst[a, b].values()):
                    worst_seed[a, b] = seed
                worst[a, b][kind] = max(worst[a, b][kind], units)
            seed += 1
            if time.monotonic() > next_line:
                most = max((max(kinds.values()) for kinds in worst.values()), default=0.0)
                print(f"{seed - first} programs, worst {most:.2f} units", flush=True)
                next_line = time.monotonic() + 30
    except KeyboardInterrupt:
        print()
    tried = seed - first
    print(f"{tried} programs tried, of which {undecided} say nothing: rounding decides there, or an overflow")
    print(f"worst difference in units  {''.join(f'{kind:>10}' for kind in KINDS)}  seed of the worst")
    for (a, b), kinds in worst.items():
        numbers = "".join(f"{kinds[kind]:10.3f}" for kind in KINDS)
        print(f"{f'{a}, {b}':27}{numbers}  {worst_seed[a, b]}")
    return status


if __name__ == "__main__":
    sys.exit(main())
