"""The subject of a trial: inert weights, the bundle that is copied into the cell, and its installation."""

from redline.subject.weights import Anchor, Anchors, Tensor, WeightFile, Weights

__all__ = ["Anchor", "Anchors", "Tensor", "WeightFile", "Weights"]
