"""Every layer type, one file each; importing the package registers them all.

`registry` maps the type string of a LayerParameter to its class. A layer of your own registers in the same way, from
your own module.
"""

from importlib import import_module
from pkgutil import iter_modules

from .base import BlobSpec, Layer, layer, registry

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["BlobSpec", "Layer", "layer", "registry"]
