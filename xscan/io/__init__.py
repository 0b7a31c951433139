"""Files in general: FITS read as a stream, and files that are whole or absent. Knows no X-ray mission."""
