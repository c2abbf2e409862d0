"""One typed run <-> run.toml / run.yaml, with what every method may name; `load` reads it, `parse` checks it."""

from labelwise.config.run import Run as Run
from labelwise.config.run import dump as dump
from labelwise.config.run import layers as layers
from labelwise.config.run import load as load
from labelwise.config.run import parse as parse
