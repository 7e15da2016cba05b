"""The layers of the network for training on a CPU: the same numbers in less time."""
