"""The only reader of the environment and of ``noa.yaml``; what comes out is one frozen ``Configuration``.

``secret`` keeps keys from being shown, ``address`` judges URLs, ``settings`` is the shape of ``noa.yaml`` and its
checks, ``noa_yaml`` reads the file with its line numbers, ``variables`` lays the environment over it and ``sources``
gathers them; ``provider`` and ``configuration`` are what the rest of Noa is given, ``in_effect`` says why, and
``reload`` what another one changes in a manager that runs.
"""

from noa.config.address import points_at
from noa.config.configuration import Configuration, ConfigurationManager
from noa.config.in_effect import InEffect, in_effect
from noa.config.provider import ProviderConfig
from noa.config.reload import Reload, Reloaded, plan_reload
from noa.config.secret import Secret
from noa.config.settings import json_schema
from noa.config.sources import Sources

__all__ = [
    "Configuration",
    "ConfigurationManager",
    "InEffect",
    "ProviderConfig",
    "Reload",
    "Reloaded",
    "Secret",
    "Sources",
    "in_effect",
    "json_schema",
    "plan_reload",
    "points_at",
]
