"""Evaluation of run/rest models."""

from decoders.behavior.metrics import Score, area_under_curve, best_threshold, score

__all__ = ["Score", "area_under_curve", "best_threshold", "score"]
