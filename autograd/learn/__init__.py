"""What a learner asks of a graph: where one derivative comes from, and which matrix entry it is."""

from .derivation import Derivation, derivation
from .explain import explain
from .explanation import Explanation

__all__ = ["Derivation", "Explanation", "derivation", "explain"]
