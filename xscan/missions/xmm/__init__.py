"""Read XMM-Newton EPIC: from the files of an observation to event lists and sources."""
