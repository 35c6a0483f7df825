"""What every part of ``ModelManager`` stands on: the house that is open while it runs."""

from __future__ import annotations

from noa.bootstrap import House
from noa.engine import Engine
from noa.errors import ConfigurationError
from noa.events import EventBus
from noa.inference import Inference


class Part:
    """One group of a manager's abilities. They share the house, which is there from ``initialize`` to ``destroy``."""

    def __init__(self) -> None:
        self._house: House | None = None

    @property
    def _open(self) -> House:
        if self._house is None:
            raise ConfigurationError("The manager is not running; use “async with”, or await initialize() first.")
        return self._house

    @property
    def engine(self) -> Engine:
        """What carries the manager's word out."""
        return self._open.engine

    @property
    def inference(self) -> Inference:
        """What serves requests."""
        return self._open.inference

    @property
    def events(self) -> EventBus:
        """What happens."""
        return self._open.events
