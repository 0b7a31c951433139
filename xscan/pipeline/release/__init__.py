"""Make releases: named results of a whole archive, each made from the previous one and compared with it.

``changes.py`` finds which observations must be searched again and why, ``difference.py`` compares the events and
regions, ``record.py`` reads and writes the file that describes a release, and ``make.py`` makes one.
"""
