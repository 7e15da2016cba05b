"""gtcrn as a LADSPA plugin: the same compiled chain, with the weights inside, and no Python."""
