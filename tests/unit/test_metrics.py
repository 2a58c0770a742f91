import math

import numpy as np
import pytest

from sgacodec import metrics


def test_psnr():
    a = np.zeros((4, 4, 3), np.uint8)
    assert metrics.psnr_db(a, a) == math.inf
    assert metrics.psnr_db(a, a + 1) == pytest.approx(10 * math.log10(255**2))


def test_bd_rate_of_known_curves():
    curve = [(0.1, 30.0), (0.2, 33.0), (0.4, 36.0), (0.8, 39.0)]
    assert metrics.bd_rate_percent(curve, curve) == pytest.approx(0)
    assert metrics.bd_rate_percent(curve, [(rate * 0.9, psnr) for rate, psnr in curve]) == pytest.approx(-10)
    for method in metrics.BD_METHODS:
        better = [(rate * 0.9, psnr) for rate, psnr in curve]
        assert metrics.bd_rate_percent(curve, better, method) == pytest.approx(-10)
        # One octave of rate is 3 dB here, so a tenth less rate is 3 * log2(1 / 0.9) dB.
        assert metrics.bd_psnr_db(curve, better, method) == pytest.approx(-3 * math.log2(0.9), rel=1e-3)
    with pytest.raises(ValueError, match="cubic needs 4 points"):
        metrics.bd_rate_percent(curve, curve[:3], "cubic")
    with pytest.raises(ValueError, match="do not overlap"):
        metrics.bd_rate_percent(curve, [(rate, psnr + 20) for rate, psnr in curve])
