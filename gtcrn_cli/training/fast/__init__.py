"""The layers of the network for training: the same numbers in less time, on a CPU and on a GPU."""
