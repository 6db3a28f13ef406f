"""Readers: one per benchmark, each turning annotation files into `Sample`s."""

from stvgkit.datasets.sample import Sample

__all__ = ["Sample"]
