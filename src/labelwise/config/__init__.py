"""One typed run <-> run.toml / run.yaml, with what every method may name; `load` reads it, `parse` checks it."""

from labelwise.config.layers import dump as dump
from labelwise.config.layers import layers as layers
from labelwise.config.layers import load as load
from labelwise.config.layers import parse as parse
from labelwise.config.run import Run as Run
