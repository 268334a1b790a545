"""special: functions that neither NumPy nor the array API standard has, of arrays and of floats.

The functions of arrays call only functions of the standard, through `xp`. Here xp is NumPy; programs contain
the text of these functions, so that it runs with other libraries. Branches that are not taken do not raise.

The polynomials interpolate at Chebyshev's nodes. At thousands of arguments, errors were at most 4 units in
the last place for erf, erfc, cbrt and, above 0, lgamma. Below 0, lgamma was within 2e-14; polygamma was
within 30 units except near its zeros.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as xp


def cbrt(x: Any) -> Any:
    """The cube root."""
    size = xp.where(x == 0.0, 1.0, xp.abs(x))
    root = size ** (1.0 / 3.0)
    root = root - (root - size / root / root) / 3.0  # Newton's step: 1/3 is rounded
    return xp.where(x == 0.0, x, xp.where(x < 0.0, -root, root))


def erf(x: Any) -> Any:
    """2/√π ∫₀ˣ exp(−t²) dt."""
    size = xp.abs(x)
    far = 1.0 - erfc_far(xp.where(size < 1.0, 1.0, size))
    return xp.where(size < 1.0, erf_near(xp.where(size < 1.0, x, 0.0)), xp.where(x < 0.0, -far, far))


def erfc(x: Any) -> Any:
    """1 − erf(x), with all its digits where erf(x) is near 1."""
    size = xp.abs(x)
    near = 1.0 - erf_near(xp.where(size < 1.0, x, 0.0))
    far = erfc_far(xp.where(size < 0.5, 0.5, size))
    return xp.where(x <= -1.0, 2.0 - far, xp.where(x < 0.5, near, far))


def erf_near(x: Any) -> Any:
    """erf(x) for −1 ≤ x ≤ 1: x times a polynomial in x²."""
    # fmt: off
    coefficients = (
        1.4543887079465116e-14, -3.8078824063194953e-13, 9.167619596865806e-12, -2.035228405815769e-10,
        4.115800583208149e-09, -7.511569286591727e-08, 1.223382738359897e-06, -1.7537169441124866e-05,
        0.00021751715604159932, -0.0022854855611441132, 0.019852496688983708, -0.1405360890227171,
        0.9654687386698673,
    )
    # fmt: on
    out: Any = 0.0
    t = 2.0 * x * x - 1.0
    for coefficient in coefficients:
        out = out * t + coefficient
    return x * out


def erfc_far(x: Any) -> Any:
    """erfc(x) for x ≥ 1/2: exp(−x²) / (1 + 2x) times a polynomial in (x − 3) / (x + 3)."""
    # fmt: off
    coefficients = (
        -3.042371600338898e-10, 4.293936067864764e-09, -7.626668915806374e-09, -2.285848295567063e-08,
        4.5260883898302425e-08, 1.138375096583129e-07, -1.4878176393814783e-07, -6.252515582550699e-07,
        3.632029230324299e-07, 3.476335316069804e-06, -7.347730079005976e-07, -2.0101755388621377e-05,
        4.950530507708112e-06, 0.00012509959591926745, -0.0001051600116510281, -0.0007798323058331685,
        0.0018886903854589663, 0.0025293918191143985, -0.023770514920496068, 0.06830802734381368,
        -0.11927366341524402, 0.12964515870276502, -0.047562294353451606, -0.1356211061245812,
        1.2530080582697296,
    )
    # fmt: on
    x = xp.where(x > 28.0, 28.0, x)  # erfc is 0 from there on
    out: Any = 0.0
    t = (x - 3.0) / (x + 3.0)
    for coefficient in coefficients:
        out = out * t + coefficient
    short = xp.floor(x * 65536.0) / 65536.0  # its square is exact
    return xp.exp(-short * short) * xp.exp((short - x) * (short + x)) * (out / (1.0 + 2.0 * x))


def lgamma(x: Any) -> Any:
    """log |Γ(x)|, below 0 by Euler's reflection."""
    below = x - xp.round(x)
    below = xp.where(x < 0.0, below, 0.5)
    away = xp.where(below == 0.0, 1.0, xp.pi * below)
    reflected = -xp.log(xp.abs(below)) - xp.log(xp.sin(away) / away)
    out = lgamma_above(xp.where(x < 0.0, 1.0 - x, x))
    return xp.where(x < 0.0, reflected - out, out)


def lgamma_above(x: Any) -> Any:
    """log Γ(x) for x ≥ 0: Stirling's series from 8 on; below 8, a polynomial and Γ(x + 1) = x Γ(x).

    (The polynomial has the factors x − 1 and x − 2, so that no digit is lost near these zeros.)
    """
    # fmt: off
    coefficients = (
        -3.700571132904742e-12, 1.1577613910649688e-11, -1.5936042537298723e-11, 5.030067090605482e-11,
        -2.075322954216366e-10, 6.5655031582108e-10, -2.0184741279133343e-09, 6.430366506216791e-09,
        -2.0619851263731666e-08, 6.623870571642316e-08, -2.138638060528023e-07, 6.948428393704062e-07,
        -2.2742472358027586e-06, 7.511391846837954e-06, -2.5094328700900636e-05, 8.510090373634476e-05,
        -0.0002945507015164312, 0.001049818664454635, -0.003913560937626331, 0.015727850268641097,
        -0.07297994795715304, 0.4831289505409809,
    )
    stirling = (
        -0.029550653594771242, 0.00641025641025641, -0.0019175269175269176, 0.0008417508417508417,
        -0.0005952380952380953, 0.0007936507936507937, -0.002777777777777778, 0.08333333333333333,
    )
    # fmt: on
    large, low = x >= 8.0, x < 1.0
    above = xp.where(large, 0.5, xp.where(low, x, x - 1.0))  # x − 1, or (x + 1) − 1 for a low x
    product = xp.where(low, x, 1.0)
    for _ in range(6):
        more = above >= 1.0
        product = xp.where(more, product * above, product)
        above = xp.where(more, above - 1.0, above)
    out: Any = 0.0
    t = 2.0 * above - 1.0
    for coefficient in coefficients:
        out = out * t + coefficient
    log = xp.log(product)
    small = above * (above - 1.0) * out + xp.where(low, -log, log)
    x = xp.where(large, x, 8.0)
    out = 0.0
    t = 1.0 / x / x
    for coefficient in stirling:
        out = out * t + coefficient
    return xp.where(large, (x - 0.5) * (xp.log(x) - 1.0) + (0.4189385332046727 + out / x), small)


def polygamma(n: Any, x: Any) -> Any:
    """The (n + 1)-th derivative of log Γ(x), for n = 0, 1, ... 12."""
    if not isinstance(n, int | float):
        out = xp.nan * x
        for order in range(13):
            out = xp.where(n == order, polygamma(order, x), out)
        return out
    sign = 1.0 - 2.0 * (n % 2)
    at = xp.where(x <= 0.0, x - xp.floor(x), x)
    up = polygamma_above(n, xp.where(x <= 0.0, 1.0 - x, 1.0))
    down = polygamma_above(n, xp.where(x <= 0.0, xp.ceil(x) - x, 1.0))
    return polygamma_above(n, at) + xp.where(x <= 0.0, sign * (up - down), 0.0)


def polygamma_above(n: Any, x: Any) -> Any:
    """polygamma(n, x) for x > 0: a sum of 1 / (x + k)ⁿ⁺¹ up to 20, then an asymptotic series."""
    n = int(n)
    total: Any = 0.0
    for _ in range(20):
        small = x < 20.0
        inverse = 1.0 / xp.where(small, x, 20.0)
        term = inverse
        for _ in range(n):
            term = term * inverse
        total = total + xp.where(small, term, 0.0)
        x = xp.where(small, x + 1.0, x)
    # fmt: off
    bernoulli = (  # B₂ⱼ / (2j)!
        0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
        2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
        8.586062056277845e-15, -2.174868698558062e-16,
    )
    # fmt: on
    inverse, factorial = 1.0 / x, 1.0
    for k in range(2, n + 1):
        factorial = factorial * k
    power = factorial
    for _ in range(n):
        power = power * inverse
    out = (power / n if n else -xp.log(x)) + 0.5 * power * inverse + factorial * total
    term = (n + 1.0) * power * inverse * inverse
    for j, number in enumerate(bernoulli, 1):
        out = out + number * term
        term = (n + 2.0 * j) * (n + 2.0 * j + 1.0) * term * inverse * inverse
    return out if n % 2 else -out


# The same functions of floats


def cbrt_float(x: float) -> float:
    return float(xp.cbrt(x))  # math.cbrt needs Python 3.11


def polygamma_float(n: float, x: float) -> float:
    if n not in range(13) or (x <= 0.0 and x == math.floor(x)):
        raise ValueError("math domain error")
    if x > 0.0:
        return _polygamma_float(int(n), x)
    sign = 1.0 - 2.0 * (n % 2.0)
    up, down = _polygamma_float(int(n), 1.0 - x), _polygamma_float(int(n), -x % 1.0)
    return _polygamma_float(int(n), x % 1.0) + sign * (up - down)


def _polygamma_float(n: int, x: float) -> float:
    total = 0.0
    while x < 20.0:
        total += (1.0 / x) ** (n + 1)
        x += 1.0
    inverse, factorial = 1.0 / x, float(math.factorial(n))
    out = (factorial * inverse**n / n if n else -math.log(x)) + factorial * (0.5 * inverse ** (n + 1) + total)
    term = (n + 1.0) * factorial * inverse ** (n + 2)
    for j, number in enumerate(BERNOULLI, 1):
        out += number * term
        term *= (n + 2.0 * j) * (n + 2.0 * j + 1.0) * inverse * inverse
    return out if n % 2 else -out


# B₂ⱼ / (2j)!
BERNOULLI = (
    0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07,
    2.08767569878681e-08, -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13,
    8.586062056277845e-15, -2.174868698558062e-16,
)  # fmt: skip
