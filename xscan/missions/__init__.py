"""Missions: how files become events. One module each."""
