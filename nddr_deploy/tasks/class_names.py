"""The classes of public data sets, in the order of their labels: what a network trained on one calls its outputs."""

from __future__ import annotations

NYU40: tuple[str, ...] = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor mat",
    "clothes",
    "ceiling",
    "books",
    "refrigerator",
    "television",
    "paper",
    "towel",
    "shower curtain",
    "box",
    "whiteboard",
    "person",
    "night stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
    "other structure",
    "other furniture",
    "other prop",
)
"""NYU Depth v2 in 40 classes: the labels 1 .. 40 of its 40-class pictures, whose 0 is "not labelled".

Source:
    Gupta, Arbelaez and Malik, Perceptual Organization and Recognition of Indoor Scenes, CVPR 2013.
"""

PASCAL21: tuple[str, ...] = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""PASCAL VOC: the background and 20 kinds of objects, spelled as its files spell them.

Source:
    Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

HUMAN_PARTS7: tuple[str, ...] = (
    "background",
    "head",
    "torso",
    "upper arms",
    "lower arms",
    "upper legs",
    "lower legs",
)
"""PASCAL-Person-Part: the background and six parts of people.

Source:
    Chen et al., Attention to Scale, CVPR 2016, which merged the parts of Chen et al., Detect What You Can, CVPR 2014.
"""

ADIENCE_AGES8: tuple[str, ...] = ("0-2", "4-6", "8-13", "15-20", "25-32", "38-43", "48-53", "60-100")
"""Adience: eight groups of ages in years, with gaps between them.

Source:
    Eidinger, Enbar and Hassner, Age and Gender Estimation of Unfiltered Faces, IEEE TIFS 2014.
"""
