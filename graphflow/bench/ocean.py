"""What ocean models spend their time on, in plain arithmetic: one text for every framework.

sea_water_density(s, t, p, sqrt)                             an equation of state
isoneutral_mixing(t, s, sea, z, tanh, absolute, below_zero)  coefficients of mixing along surfaces of equal density
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Function = Callable[[Any], Any]

# Mixing: how strong (m²/s), up to which slope, how fast it fades beyond; distances of cells (m).
STRENGTH, STEEPEST, FADING = 1000.0, 1e-3, 1e-3
DX, DY = 50e3, 40e3
TINY = 1e-20
# A simple equation of state: G. K. Vallis, Atmospheric and Oceanic Fluid Dynamics (2006), section 1.6.
DENSITY, THERMAL, CABBELING, HALINE, THERMOBARIC = 1024.0, 1.67e-4, 1e-5, 0.78e-3, 1.1e-8
WARM, GRAVITY = 9.85, 9.81


def sea_water_density(s: Any, t: Any, p: Any, sqrt: Callable[[Any], Any]) -> Any:
    """In-situ density minus density at 200 bar, kg/m³: about 110 operations an element.

    s: practical salinity; t: °C (IPTS-68); p: bar.  The International Equation of State of Seawater, 1980: UNESCO
    technical papers in marine science 36 (1981); the coefficients as in Fofonoff and Millard, same series, 44 (1983).
    """
    surface, bulk = sea_water_surface(s, t, sqrt)
    a = (
        3.239908 + t * (1.43713e-3 + t * (1.16092e-4 - t * 5.77905e-7))
        + s * (2.2838e-3 - t * (1.0981e-5 + t * 1.6078e-6) + 1.91075e-4 * sqrt(s))
    )  # fmt: skip
    b = (
        8.50935e-5 - t * (6.12293e-6 - t * 5.2787e-8)
        + s * (-9.9348e-7 + t * (2.0816e-8 + t * 9.1697e-10))
    )  # fmt: skip
    here = surface / (1.0 - p / (bulk + p * (a + p * b)))
    reference = surface / (1.0 - 200.0 / (bulk + 200.0 * (a + 200.0 * b)))
    return here - reference


def sea_water_surface(s: Any, t: Any, sqrt: Callable[[Any], Any]) -> Any:
    """(density, secant bulk modulus in bar) at atmospheric pressure; see `sea_water_density`."""
    root = sqrt(s)
    surface = (
        999.842594 + t * (6.793952e-2 - t * (9.095290e-3 - t * (1.001685e-4 - t * (1.120083e-6 - t * 6.536332e-9))))
        + s * (8.24493e-1 - t * (4.0899e-3 - t * (7.6438e-5 - t * (8.2467e-7 - t * 5.3875e-9))))
        + s * root * (-5.72466e-3 + t * (1.0227e-4 - t * 1.6546e-6)) + 4.8314e-4 * s * s
    )  # fmt: skip
    bulk = (
        19652.21 + t * (148.4206 - t * (2.327105 - t * (1.360477e-2 - t * 5.155288e-5)))
        + s * (54.6746 - t * (0.603459 - t * (1.09987e-2 - t * 6.1670e-5)))
        + s * root * (7.944e-2 + t * (1.6483e-2 - t * 5.3009e-4))
    )  # fmt: skip
    return surface, bulk


def isoneutral_mixing(
    t: Any, s: Any, sea: Any, z: Any, tanh: Function, absolute: Function, below_zero: Function
) -> tuple[Any, Any, Any]:
    """The coefficients K11, K22, K33 of the cells inside (m²/s, the last one m²/s times a slope squared).

    t, s: temperature and salinity [x, y, z]; sea: 1 in water, 0 on land; z: heights [z]; `below_zero(v)` is min(v, 0).
    The slopes of surfaces of equal density are taken from triads of neighbours, and mixing fades where these are steep:
    S. M. Griffies and others, Isoneutral diffusion in a z-coordinate ocean model, J. Phys. Oceanogr. 28 (1998).
    """
    by_heat = -DENSITY * (THERMAL * (1.0 - THERMOBARIC * GRAVITY * DENSITY * z) + 2.0 * CABBELING * (t - WARM))
    by_salt = DENSITY * HALINE

    def at(v: Any, x: int, y: int, k: int) -> Any:
        """The cells inside, moved by so many."""
        return v[part(x), part(y), part(k)]

    def gradient(cell: tuple[int, int, int], a: tuple[int, int, int], b: tuple[int, int, int], distance: Any) -> Any:
        """Of density as the water of `cell` has it, from a to b."""
        return (at(by_heat, *cell) * (at(t, *b) - at(t, *a)) + by_salt * (at(s, *b) - at(s, *a))) / distance

    def triad(cell: tuple[int, int, int], side: tuple[Any, Any, float], up: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        """(slope, how much of the mixing is left)."""
        slope = -gradient(cell, *side) / (below_zero(gradient(cell, *up)) - TINY)
        return slope, 0.5 * (1.0 + tanh((STEEPEST - absolute(slope)) / FADING))

    def height(k: int) -> Any:
        """Between the centres of cells k - 1 and k."""
        return z[part(k)] - z[part(k - 1)]

    def sideward(x: int, y: int, distance: float) -> Any:
        """Through the faces toward (x, y)."""
        total = 0.0
        for on in (0, 1):
            for k in (0, 1):
                i, j = on * x, on * y
                side, up = ((0, 0, 0), (x, y, 0), distance), ((i, j, k - 1), (i, j, k), height(k))
                total = total + triad((i, j, 0), side, up)[1]
        return 0.25 * STRENGTH * total * at(sea, 0, 0, 0) * at(sea, x, y, 0)

    def upward(x: int, y: int, distance: float) -> Any:
        """Through the upper faces, by slopes along (x, y)."""
        total = 0.0
        for on in (0, 1):
            for k in (0, 1):
                i, j = on * x, on * y
                side, up = ((i - x, j - y, k), (i, j, k), distance), ((0, 0, 0), (0, 0, 1), height(1))
                slope, left = triad((0, 0, k), side, up)
                total = total + left * slope * slope
        return 0.25 * STRENGTH * total * at(sea, 0, 0, 0) * at(sea, 0, 0, 1)

    return sideward(1, 0, DX), sideward(0, 1, DY), upward(1, 0, DX) + upward(0, 1, DY)


def part(moved: int) -> slice:
    """All of an axis but its ends, moved by -1, 0 or 1."""
    return slice(1 + moved, moved - 1 if moved < 1 else None)
