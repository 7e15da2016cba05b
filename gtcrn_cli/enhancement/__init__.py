"""Samples in, samples out: the front end, the engines, and the loop from source to sink."""
