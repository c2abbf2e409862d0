"""Files of weights that labelwise knows by name: where they come from, and the cache that keeps them. Without torch.

`path_of` turns what a setting says, a name or a path, into a file.
"""

from labelwise.weights.cache import cached as cached
from labelwise.weights.cache import fetch as fetch
from labelwise.weights.cache import folder as folder
from labelwise.weights.cache import kept as kept
from labelwise.weights.cache import path_of as path_of
from labelwise.weights.known import KNOWN as KNOWN
from labelwise.weights.known import Entry as Entry
from labelwise.weights.known import find as find
from labelwise.weights.known import is_file as is_file
from labelwise.weights.known import of_kind as of_kind
