"""Detectors that are not labelwise's own: how they predict for `labelwise.api`, and how they train on its targets.

One file per kind: `callable` (any function), `torchvision`, `transformers` (DETR, RT-DETR, RT-DETRv2).
"""
