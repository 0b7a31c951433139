"""Releases: results of a whole archive under a name, each made from the one before and told apart from it.

``changes.py`` says which observations must be searched again and why, ``difference.py`` what that
changed, ``record.py`` what a release is; ``make.py`` makes one.
"""
