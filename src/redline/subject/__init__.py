"""The subject of a trial: inert weights, the bundle that is copied into the cell, and its installation."""

from redline.subject.install import Inode, Subject, install
from redline.subject.layout import ROOT, Layout, bundle_files
from redline.subject.weights import Anchor, Anchors, Tensor, WeightFile, Weights

__all__ = [
    "ROOT",
    "Anchor",
    "Anchors",
    "Inode",
    "Layout",
    "Subject",
    "Tensor",
    "WeightFile",
    "Weights",
    "bundle_files",
    "install",
]
