"""Read FITS files as a stream, and write files that are complete or absent.

Contract: nothing here knows an X-ray mission, and errors name the file and what to do. Any package that may touch the
disk may import this one.
"""
