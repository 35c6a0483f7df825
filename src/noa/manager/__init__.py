"""``ModelManager``, in parts: one file for each group of what it can do."""

from noa.manager.manager import ModelManager
from noa.manager.questions import Statistics

__all__ = ["ModelManager", "Statistics"]
