"""Getting weights into the model folder: the demo model, a model of Hugging Face, a file of the web or of this machine.

``source`` reads where from and is what others call. ``hub`` lists repositories and ``quantization`` says which of their
files are meant; ``download`` fetches over connections that break, ``web`` makes one; ``wheel`` has pip do it. Whatever
the source, a file arrives as a ``part``, below a hidden folder of ``incoming``, is checked, is flushed to the disk and
gets its ``place`` in one step: a ``.gguf`` file in the model folder is whole or not there at all. ``shards`` are the
files of a model that is split, and ``progress`` is what whoever waits is told.
"""

from noa.weights.shards import model_name, size_of_model
from noa.weights.source import fetch
from noa.weights.wheel import DEMO_MODEL_ID, DEMO_SOURCE

__all__ = ["DEMO_MODEL_ID", "DEMO_SOURCE", "fetch", "model_name", "size_of_model"]
