from __future__ import annotations

import numpy as np
import pytest

from xscan.missions.xmm.instrument import EPIC
from xscan.model import CAMERAS
from xscan.pointsource.psf import KING_SLOPE, cores_arcsec, king, published


def test_the_profile_is_king_s_and_its_integral_1() -> None:
    core = 6.6
    r = np.linspace(0, 2000 * core, 2_000_001)
    near = 1 + (r / core) ** 2
    density = king(near, np.array(core**2))
    np.testing.assert_allclose(density * core**2 * np.pi / (KING_SLOPE - 1), near**-KING_SLOPE, rtol=1e-14)
    enclosed = np.trapezoid(2 * np.pi * r * density, r)
    assert enclosed == pytest.approx(1 - near[-1] ** (1 - KING_SLOPE), abs=1e-6)


def test_published_values_are_met() -> None:
    # MOS1 on axis as tabulated in XRT1_XPSF_0005.CCF; pn from the formula of XMM-CCF-REL-116
    energy = np.array([1.5, 6.0])
    core, slope = published(EPIC.camera("m1"), energy, 0.0)
    assert core == pytest.approx([4.720, 3.658], abs=1e-3)
    assert slope == pytest.approx([1.457, 1.412], abs=1e-3)
    core, slope = published(EPIC.camera("pn"), energy[:1], 10.0)
    assert core[0] == pytest.approx(6.636 - 0.4575 - 1.75 - 0.1005)
    assert slope[0] == pytest.approx(1.525 - 0.0225 - 0.12 - 0.015)


@pytest.mark.parametrize("camera", range(len(CAMERAS)))
def test_no_energy_and_no_place_of_the_field_makes_a_profile_absurd(camera: int) -> None:
    pi = np.arange(200, 12_001, 100)
    for off_axis_arcmin in (0.0, 5.0, 10.0, 15.0, 60.0):
        cores = cores_arcsec(np.full(pi.size, camera, np.uint8), pi, off_axis_arcmin, EPIC)
        assert (cores > 2).all()
        assert (cores < 8).all()


def test_the_core_that_stands_for_another_slope_tells_as_much_about_a_place() -> None:
    """The information of a profile on a place: the mean square of the slope of its logarithm."""
    core, slope = (float(value[0]) for value in published(EPIC.camera("pn"), np.array([4.0]), 8.0))
    alike = float(cores_arcsec(np.zeros(1, np.uint8), np.array([4000]), 8.0, EPIC)[0])
    told = []
    for c, a in ((core, slope), (alike, KING_SLOPE)):
        r = np.linspace(0, 400 * c, 2_000_001)
        near = 1 + (r / c) ** 2
        density = (a - 1) / (np.pi * c**2) * near**-a
        told.append(np.trapezoid(2 * np.pi * r * density * (2 * a * r / c**2 / near) ** 2 / 2, r))
    assert told[0] == pytest.approx(told[1], rel=1e-3)
