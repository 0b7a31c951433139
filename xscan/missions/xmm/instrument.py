"""EPIC, the cameras of XMM-Newton that are searched."""

from __future__ import annotations

from xscan.model import Camera, Instrument
from xscan.sky import SkyPixels

__all__ = ["EPIC"]

_PN = Camera(
    name="pn",
    instrume="EPN",
    label="pn",
    columns=64,
    rows=200,
    pixel_arcsec=4.1,
    n_ccds=12,
    frame_s=0.0734,
    core=(6.636, -0.305, -0.175, -0.0067),
    slope=(1.525, -0.015, -0.012, -0.0010),
    bad_columns=((4, 12), (5, 11), (10, 28)),
    hole_step_arcsec=2.05,
    frame_s_by_submode={"PrimeFullWindowExtended": 0.1991, "PrimeLargeWindow": 0.0477},
)
_M1 = Camera(
    name="m1",
    instrume="EMOS1",
    label="MOS1",
    columns=600,
    rows=600,
    pixel_arcsec=1.1,
    n_ccds=7,
    frame_s=2.6,  # in a window mode that of the outer CCDs, the only ones that are searched
    core=(5.074, -0.236, 0.002, -0.0180),
    slope=(1.472, -0.010, -0.001, -0.0016),
    first=2,  # the first column and row give no events in real lists
)
_M2 = Camera(
    name="m2",
    instrume="EMOS2",
    label="MOS2",
    columns=600,
    rows=600,
    pixel_arcsec=1.1,
    n_ccds=7,
    frame_s=2.6,
    core=(4.759, -0.203, 0.014, -0.0229),
    slope=(1.411, -0.005, -0.001, -0.0002),
    first=2,
)

EPIC = Instrument(
    name="EPIC",
    telescope="XMM",
    cameras=(_PN, _M1, _M2),
    mjdref=50_814.0,  # 1998-01-01T00:00:00
    sky=SkyPixels(51_840, 0.05),
    pi_range=(200, 12_000),
    particle_band=(10_001, 12_000),
    particle_rate_max=0.5,
)
"""King profiles of pn: R. D. Saxton 2002, XMM-CCF-REL-116; of MOS: S. Ghizzardi 2001, EPIC-MCT-TN-008 and -011, the
KING_PARAMS of XRT1_XPSF_0005 and XRT2_XPSF_0005. Measured up to 12 arcmin off axis (Calibration Access and Data
Handbook, CAL_getPSFmap). Frame times: XMM-Newton Users' Handbook, table of EPIC's science modes."""
