"""Train the lab's network on XOR; --help lists the options."""

from program import run
from train import main

if __name__ == "__main__":
    run(lambda: main("xor"))
