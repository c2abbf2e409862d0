"""Augmented views of an image, one per file; the verb is `apply`.

A view names its inputs from the menu `image` (float [3, h, w] in 0..1), `boxes` (the model's boxes on that image,
[k, 4]) and `rng`, and returns the augmented image and the affine [2, 3] that maps coordinates of the image to the
view's (continuous coordinates: the image spans 0..w, the centre of its first pixel is 0.5).
"""
