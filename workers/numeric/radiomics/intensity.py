"""Intensity-based statistics of a region (IBSI reference manual, family UHIW)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workers.numeric.radiomics.feature import Feature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FEATURES: tuple[Feature, ...] = (
    Feature("Q4LE", "Mean intensity", "intensity"),
    Feature("ECT3", "Intensity variance", "intensity2"),
    Feature("KE2A", "Intensity skewness", "1"),
    Feature("IPH6", "Intensity kurtosis", "1"),
    Feature("Y12H", "Median intensity", "intensity"),
    Feature("1GSF", "Minimum intensity", "intensity"),
    Feature("QG58", "10th intensity percentile", "intensity"),
    Feature("8DWT", "90th intensity percentile", "intensity"),
    Feature("84IY", "Maximum intensity", "intensity"),
    Feature("SALO", "Intensity interquartile range", "intensity"),
    Feature("2OJQ", "Intensity range", "intensity"),
    Feature("4FUA", "Intensity-based mean absolute deviation", "intensity"),
    Feature("1128", "Intensity-based robust mean absolute deviation", "intensity"),
    Feature("N72L", "Intensity-based median absolute deviation", "intensity"),
    Feature("7TET", "Intensity-based coefficient of variation", "1"),
    Feature("9S40", "Intensity-based quartile coefficient of dispersion", "1"),
    Feature("N8CA", "Intensity-based energy", "intensity2"),
    Feature("5ZWQ", "Root mean square intensity", "intensity"),
)


def statistics(intensities: NDArray[np.floating]) -> Mapping[str, float | None]:
    """Every feature of `FEATURES` by IBSI id, from the intensities of a region's voxels (any shape).

    Moments are of the population (divided by n), kurtosis is in excess of the normal distribution's,
    percentiles are interpolated linearly. Skewness and kurtosis of equal intensities are 0. None
    stands where a ratio has no denominator, and everywhere when there is no voxel.
    """
    values = np.asarray(intensities, np.float64).ravel()
    if values.size == 0:
        return {feature.ibsi_id: None for feature in FEATURES}
    mean = float(values.mean())
    around = values - mean
    variance = float(np.mean(around**2)) if np.ptp(values) else 0.0
    p10, p25, median, p75, p90 = (float(p) for p in np.percentile(values, (10, 25, 50, 75, 90)))
    least, most = float(values.min()), float(values.max())
    energy = float(np.sum(values**2))
    return {
        "Q4LE": mean,
        "ECT3": variance,
        "KE2A": _moment(around, variance, 3),
        "IPH6": _moment(around, variance, 4) - 3.0 if variance else 0.0,
        "Y12H": median,
        "1GSF": least,
        "QG58": p10,
        "8DWT": p90,
        "84IY": most,
        "SALO": p75 - p25,
        "2OJQ": most - least,
        "4FUA": float(np.mean(np.abs(around))),
        "1128": _robust_deviation(values, p10, p90),
        "N72L": float(np.mean(np.abs(values - median))),
        "7TET": _ratio(variance**0.5, mean),
        "9S40": _ratio(p75 - p25, p75 + p25),
        "N8CA": energy,
        "5ZWQ": (energy / values.size) ** 0.5,
    }


def _moment(around: NDArray[np.float64], variance: float, order: int) -> float:
    """Mean of the deviations in standard deviations, to a power; 0 without spread."""
    return float(np.mean((around / variance**0.5) ** order)) if variance else 0.0


def _robust_deviation(values: NDArray[np.float64], low: float, high: float) -> float | None:
    """Mean absolute deviation of the values from the 10th to the 90th percentile, both included; of two, none is."""
    kept = values[(values >= low) & (values <= high)]
    return float(np.mean(np.abs(kept - kept.mean()))) if kept.size else None


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
