"""compile(): from a recorded graph of scalars to a program over data sets, in four steps."""

from .compiled import Program, compile, first_of
from .reading import Reading, pack

__all__ = ["Program", "Reading", "compile", "first_of", "pack"]
