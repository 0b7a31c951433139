"""Write results in forms for people and for other programs: pictures, DS9 regions, light curves as CSV or FITS.

Contract: made from stored tables (an image also needs the counts of a running scan); nothing here changes a result.
``pipeline`` and ``cli`` may import this package.
"""
