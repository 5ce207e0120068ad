"""What a lesion may look like elsewhere: on other skin, under hair, through another dermoscope, at another clinic.

Pure functions: one uint8 RGB image (height, width, 3) in, another out; the one that came in is never written to. What is
random comes from a `numpy.random.Generator`. `ssl_isic/data/steps/` makes steps of views of them; docs/augmentations.md
has sources, costs and what was measured.
"""
