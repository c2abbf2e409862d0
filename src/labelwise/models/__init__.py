"""Stage 2: learners. A method is a file with `build(n_classes, *, settings) -> nn.Module`; `_x.py` is machinery."""
