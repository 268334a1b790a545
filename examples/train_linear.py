"""Train the lab's network on 100 linear points; --help lists the options."""

import sys

from train import main

if __name__ == "__main__":
    sys.exit(main("linear"))
