"""Train the lab's network on 100 linear points; --help lists the options."""

from program import run
from train import main

if __name__ == "__main__":
    run(lambda: main("linear"))
