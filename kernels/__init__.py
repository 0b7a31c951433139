"""CUDA sources, shipped as package data."""
