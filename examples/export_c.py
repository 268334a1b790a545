"""Train the lab's network on XOR, write it as C, compile that, and compare the predictions.

python examples/export_c.py --out runs/c
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from program import run  # it puts the checkout on the path, so it is before what needs that
from train import start

import autograd
import nn

COMMAND = "cc -std=c99 -Wall -Werror -O2 -o predict main.c xor.c -lm".split()
MAIN = """\
/* Prints the network's prediction for each point. */

#include <stddef.h>
#include <stdio.h>

void xor_of_rows(size_t n, const double *x, double *xor); /* xor.c */

static const double points[] = {{
{points}
}};

int main(void)
{{
    double predictions[{n}];
    xor_of_rows({n}, points, predictions);
    for (size_t i = 0; i < {n}; i++) {{
        printf("%.17g\\n", predictions[i]);
    }}
    return 0;
}}
"""


def main() -> int:
    """Write xor.c and main.c; where there is a C compiler, run them, too."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/c"), help="the folder to write to")
    options = parser.parse_args()
    _, X, Y, model, _ = start("xor", options.seed)
    sgd = nn.SGD(model.parameters(), lr=2.0)
    history = nn.fit(model, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=options.epochs, progress=False)
    print(f"xor: {len(X)} points, loss {history.loss[-1]:.6f} after {options.epochs} epochs")

    @autograd.compile
    def xor(x: np.ndarray) -> Any:
        return model(x)

    predictions = xor.per_example(X)
    points = "\n".join(f"    {x1!r}, {x2!r}," for x1, x2 in X.tolist())
    files = {
        "xor.c": xor.c_source("rows", weights=True),
        "main.c": MAIN.format(points=points, n=len(X)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (options.out / name).write_text(text, "utf-8")
        print(f"wrote {options.out / name}")
    if not shutil.which("cc"):
        print(f"there is no C compiler here: in {options.out}, run {' '.join(COMMAND)} && ./predict")
        return 0
    subprocess.run(COMMAND, cwd=options.out, check=True)
    printed = subprocess.run([options.out.resolve() / "predict"], capture_output=True, text=True, check=True)
    found = np.array(printed.stdout.split(), dtype=float)
    print("\n    x1      x2   program         C")
    for (x1, x2), p, c in zip(X, predictions, found):
        print(f"{x1:6.3f}  {x2:6.3f}  {p:8.6f}  {c:8.6f}")
    difference = np.max(np.abs(found - predictions))
    print(f"largest difference: {difference:.1e}")
    return int(not difference <= 1e-12)


if __name__ == "__main__":
    run(main)
