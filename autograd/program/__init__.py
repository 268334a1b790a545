"""compile(): from a recorded graph of scalars to a program over data sets, in four steps."""

from .compile import Program, compile

__all__ = ["Program", "compile"]
