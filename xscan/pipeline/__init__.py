"""Many observations: here, on workers, on a cluster; what is left to do, what became of each, how fast it goes."""
