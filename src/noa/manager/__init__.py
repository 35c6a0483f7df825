"""``ModelManager``, in parts: one file for each group of what it can do."""

from noa.manager.manager import ModelManager
from noa.manager.questions import Statistics
from noa.manager.sync import SyncModelManager

__all__ = ["ModelManager", "Statistics", "SyncModelManager"]
