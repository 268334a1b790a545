"""What a learner asks of a graph: where one derivative comes from, and which matrix entry it is."""

from .explain import Explanation, explain

__all__ = ["Explanation", "explain"]
