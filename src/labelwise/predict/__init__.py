"""The only place where a model meets the pool."""
