"""How fast it is: the networks and tools of the field, timed in turn in one run."""
