"""What the world says of models: their windows, what they can do, what they cost, as of a day that is always said.

``snapshot`` is the form it is kept in, ``models_dev`` reads what models.dev publishes, ``names`` and ``services`` say
which entry is meant, ``catalog`` looks it up. The data and where it comes from are in ``data``.
"""

from noa.catalog.catalog import Catalog
from noa.catalog.facts import CatalogFacts
from noa.catalog.services import services_of

__all__ = ["Catalog", "CatalogFacts", "services_of"]
