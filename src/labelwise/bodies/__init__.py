"""Networks with weights that are never trained here: images to features. One file per family."""
