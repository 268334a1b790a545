"""Train the lab's network on XOR; --help lists the options."""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main("xor"))
