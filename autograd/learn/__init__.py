"""Explanations: where a derivative comes from, which matrix entry it is, and how both passes move."""

from .derivation import Derivation, derivation
from .explain import explain
from .explanation import Explanation
from .lesson import Lesson, lesson

__all__ = ["Derivation", "Explanation", "Lesson", "derivation", "explain", "lesson"]
